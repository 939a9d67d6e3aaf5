import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ModelError } from '../../contract/errors.ts';
import type { ModelIdentity } from '../../contract/recommendation.ts';
import { type Manifest, readManifest } from './manifest.ts';

export type Model = {
  readonly manifest: Manifest;
  readonly identity: ModelIdentity;
  /** model.onnx, whose sha256 is the manifest's. */
  readonly bytes: Uint8Array;
};

/**
 * Reads a model's folder and holds model.onnx against its manifest. Its tensors are checked where it runs.
 * @throws ModelError MODEL_MANIFEST, MODEL_HASH (also when model.onnx is missing), with what was expected and met
 */
export function loadModel(folder: string): Model {
  const manifest = readManifest(folder);
  const path = join(folder, 'model.onnx');
  const expected = manifest.sha256;
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new ModelError(
      'MODEL_HASH',
      `${path}: wanted a file of sha256 ${expected}, got none`,
      { expected, actual: null },
      cause,
    );
  }
  const actual = createHash('sha256').update(bytes).digest('hex');
  if (actual !== expected) {
    throw new ModelError(
      'MODEL_HASH',
      `${path}: wanted sha256 ${expected} as the manifest says, got ${actual}`,
      { expected, actual },
    );
  }
  const { name, version } = manifest;
  return { manifest, bytes, identity: { name, version, sha256: actual } };
}
