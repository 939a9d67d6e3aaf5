import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
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
    const fingerprint = fingerprintAt(`${folder}/${file}`);
    return fingerprint === null ? [] : [{ file, fingerprint }];
  });
  return { files, unseen: Math.max(0, names.length - mostFiles) };
}

/**
 * The text of a script. It is run with all that this process may do, so nobody else may be able to write it.
 * @throws ConfigError CUSTOM_PROBE_INVALID
 */
export function readScriptFile(folder: string, file: string, ownUid: number): string {
  try {
    // Where others may put files, one is not even opened. A link is followed: folders that are mounted are often full of them.
    checkOwner(statSync(folder), folder, ownUid);
    // A FIFO that nobody writes to would never open.
    const descriptor = openSync(`${folder}/${file}`, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(descriptor);
      checkOwner(stats, file, ownUid);
      if (!stats.isFile()) throw invalid(`${file}: got no regular file, wanted one`);
      return readText(descriptor, file);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw error instanceof ConfigError ? error : invalid(`${file}: ${describeError(error)}`, error);
  }
}

/** Reads no more than may be, whatever the size is said to be: it may grow, and files of /proc say 0. */
function readText(descriptor: number, file: string): string {
  const bytes = Buffer.alloc(mostBytes + 1);
  let length = 0;
  for (let got = -1; got !== 0; length += got)
    got = readSync(descriptor, bytes, length, bytes.length - length, null);
  if (length > mostBytes) throw invalid(`${file}: got more than ${mostBytes} bytes`);
  return bytes.toString('utf8', 0, length);
}

function checkOwner({ uid, mode }: Stats, what: string, ownUid: number): void {
  if ((uid === 0 || uid === ownUid) && (mode & 0o022) === 0) return;
  const got = `owner ${uid}, mode ${(mode & 0o777).toString(8)}`;
  throw invalid(
    `${what}: got ${got}; wanted owner 0 or ${ownUid}, and nobody else to be able to write it`,
  );
}

/** Null: it is gone. One that cannot be looked at is listed all the same, so that it is refused, and said, when it is read. */
function fingerprintAt(path: string): string | null {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (!stats) return null;
    const { ino, size, mtimeMs, ctimeMs } = stats;
    return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
  } catch (error) {
    return describeError(error);
  }
}

function invalid(message: string, cause?: unknown): ConfigError {
  return new ConfigError('CUSTOM_PROBE_INVALID', message, {}, cause);
}
