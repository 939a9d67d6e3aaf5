import { readdirSync, readFileSync, statSync } from 'node:fs';

const goneCodes = new Set([
  'ENOENT',
  'ESRCH',
  'ENODEV',
  'ENOTDIR',
  'EACCES',
  'EPERM',
  'EINVAL',
  'EIO',
  // cgroup.procs of a threaded cgroup.
  'ENOTSUP',
  'EOPNOTSUPP',
]);

/** The trimmed text of a kernel file; null when it is not there (any more) or not readable: processes end meanwhile. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if (goneCodes.has((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}

/** The number in a kernel file; null as `readText`, or when it holds none. */
export function readNumber(path: string): number | null {
  const text = readText(path);
  if (text === null || text === '') return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Names in a folder; empty when it is not there (any more). */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (goneCodes.has((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

/** Number of the inode that a path leads to; null as `readText`. */
export function readInode(path: string): number | null {
  try {
    return statSync(path).ino;
  } catch (error) {
    if (goneCodes.has((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}
