import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  type Stats,
  statSync,
} from 'node:fs';
import { ConfigError, describeError } from '../../contract/errors.ts';

/** A file of the folder: what tells that it has changed. */
export type ScriptFile = { readonly file: string; readonly fingerprint: string };

/** Files that are looked at, in the order of their names. */
const mostFiles = 256;
const mostBytes = 65_536;

/**
 * The scripts (`*.bt`) in a folder.
 * @throws Error of the system when the folder cannot be read
 */
export function listScripts(folder: string): { files: ScriptFile[]; unseen: number } {
  const names = readdirSync(folder)
    .filter(name => name.endsWith('.bt'))
    .sort();
  const files = names.slice(0, mostFiles).flatMap(file => {
    const stats = statSync(`${folder}/${file}`, { throwIfNoEntry: false });
    return stats ? [{ file, fingerprint: fingerprintOf(stats) }] : [];
  });
  return { files, unseen: Math.max(0, names.length - mostFiles) };
}

/**
 * The text of a script. It is run with all that this process may do, so nobody else may be able to write it.
 * @throws ConfigError CUSTOM_PROBE_INVALID
 */
export function readScriptFile(folder: string, file: string, ownUid: number): string {
  try {
    const descriptor = openSync(`${folder}/${file}`, 'r');
    try {
      const stats = fstatSync(descriptor);
      checkOwner(statSync(folder), folder, ownUid);
      checkOwner(stats, file, ownUid);
      if (!stats.isFile() || stats.size > mostBytes)
        throw invalid(`${file}: got ${stats.size} bytes, wanted a file of at most ${mostBytes}`);
      return readFileSync(descriptor, 'utf8');
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw error instanceof ConfigError ? error : invalid(`${file}: ${describeError(error)}`, error);
  }
}

function checkOwner({ uid, mode }: Stats, what: string, ownUid: number): void {
  if ((uid === 0 || uid === ownUid) && (mode & 0o022) === 0) return;
  const got = `owner ${uid}, mode ${(mode & 0o777).toString(8)}`;
  throw invalid(
    `${what}: got ${got}; wanted owner 0 or ${ownUid}, and nobody else to be able to write it`,
  );
}

function fingerprintOf({ ino, size, mtimeMs, ctimeMs }: Stats): string {
  return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
}

function invalid(message: string, cause?: unknown): ConfigError {
  return new ConfigError('CUSTOM_PROBE_INVALID', message, {}, cause);
}
