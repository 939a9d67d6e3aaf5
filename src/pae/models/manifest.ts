import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { ModelError } from '../../contract/errors.ts';

const size = z.int().min(1).max(4096);

/** `batch` is the number of series; every other dimension is fixed. */
const tensorSchema = z.strictObject({
  name: z.string().min(1),
  role: z.enum(['window', 'state', 'forecast']),
  dtype: z.literal('float32'),
  shape: z.tuple([z.literal('batch')], size),
  unit: z.enum(['cores', '1']),
});

const lossSchema = z.strictObject({
  pinball: z.number().min(0),
  q50: z.number().min(0),
  q90: z.number().min(0),
  q95: z.number().min(0),
});

/**
 * What a model says of itself. It is a pure function (window, state) → (forecast, next state): window `[batch,
 * windowSteps]` cores, oldest first; state `[batch, n]`, zeros for a new series; forecast `[batch, horizonSteps,
 * quantiles]` cores, ascending along the quantiles.
 */
export const manifestSchema = z
  .strictObject({
    name: z.string().min(1),
    version: z.string().min(1),
    description: z.string(),
    /** Of model.onnx, in hexadecimal. */
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    opset: z.int().min(1),
    stepSeconds: z.number().positive(),
    windowSteps: size,
    horizonSteps: size,
    quantiles: z.array(z.number().gt(0).lt(1)).min(1).max(16),
    inputs: z.tuple([tensorSchema, tensorSchema]),
    outputs: z.tuple([tensorSchema, tensorSchema]),
    training: z.strictObject({ command: z.string(), seed: z.int(), data: z.string() }),
    accuracy: z.strictObject({
      data: z.string(),
      model: lossSchema,
      naive: lossSchema,
      ses: lossSchema,
      windowQuantiles: lossSchema,
      coverage: z.record(z.string(), z.number().min(0).max(1)),
    }),
  })
  .superRefine((manifest, context) => {
    const { windowSteps, horizonSteps, quantiles } = manifest;
    for (const q of [0.5, 0.9, 0.95]) {
      if (!quantiles.includes(q))
        context.addIssue({
          code: 'custom',
          path: ['quantiles'],
          message: `wanted ${q} among them`,
        });
    }
    const shapes = { window: [windowSteps], forecast: [horizonSteps, quantiles.length] };
    const state = manifest.inputs.find(tensor => tensor.role === 'state')?.shape.slice(1) ?? [];
    for (const side of ['inputs', 'outputs'] as const) {
      const roles = manifest[side].map(tensor => tensor.role).sort();
      const wanted = side === 'inputs' ? ['state', 'window'] : ['forecast', 'state'];
      if (roles.join() !== wanted.join())
        context.addIssue({
          code: 'custom',
          path: [side],
          message: `wanted ${wanted.join(' and ')}, got ${roles.join(' and ')}`,
        });
      for (const { role, shape } of manifest[side]) {
        const expected = role === 'state' ? state : shapes[role];
        if (shape.slice(1).join() !== expected.join() || (role === 'state' && shape.length !== 2))
          context.addIssue({
            code: 'custom',
            path: [side],
            message: `${role}: wanted [batch, ${expected.join(', ')}], got [${shape.join(', ')}]`,
          });
      }
    }
  });

export type Manifest = z.infer<typeof manifestSchema>;
export type TensorSpec = z.infer<typeof tensorSchema>;

/** @throws ModelError MODEL_MANIFEST which names the file, the field and what was wanted */
export function readManifest(folder: string): Manifest {
  const path = join(folder, 'manifest.json');
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new ModelError(
      'MODEL_MANIFEST',
      `${path}: wanted a JSON file, got: ${cause instanceof Error ? cause.message : cause}`,
      { expected: 'JSON', actual: null },
      cause,
    );
  }
  const result = manifestSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const at = issue?.path.join('.') || 'manifest';
  throw new ModelError(
    'MODEL_MANIFEST',
    `${path}: ${at}: ${issue?.message ?? 'malformed'}`,
    { expected: issue?.message, actual: at },
    result.error,
  );
}
