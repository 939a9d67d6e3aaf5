import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
} from 'node:fs';

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
  // Anybody who may make cgroups of his own can nest them past PATH_MAX.
  'ENAMETOOLONG',
]);

/** Whether it says that a kernel file is not there (any more) or not readable. */
export function isGone(error: unknown): boolean {
  return goneCodes.has((error as NodeJS.ErrnoException).code ?? '');
}

/** As `readText` does: who looks at many files at one moment may read once what they share. */
export type TextReader = (path: string) => string | null;

/** The trimmed text of a kernel file; null when it is not there (any more) or not readable: processes end meanwhile. */
export function readText(path: string): string | null {
  return readWhole(path)?.trim() ?? null;
}

/** The text of a kernel file as it is, of which a blank at the end may be somebody's name for something; null as `readText`. */
export function readWhole(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** The beginning of a kernel file that may be as long as somebody else likes; null as `readText`. */
export function readTextUpTo(path: string, bytes: number): string | null {
  try {
    const file = openSync(path, 'r');
    try {
      const parts: Buffer[] = [];
      for (let left = bytes; left > 0; ) {
        const part = Buffer.allocUnsafe(Math.min(left, 16_384));
        const length = readSync(file, part, 0, part.length, null);
        if (length === 0) break;
        parts.push(part.subarray(0, length));
        left -= length;
      }
      return Buffer.concat(parts).toString().trim();
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** The number in a kernel file; null as `readText`, or when it holds none. */
export function readNumber(path: string, read: TextReader = readText): number | null {
  const text = read(path);
  if (text === null || text === '') return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Names in a folder; empty when it is not there (any more). */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** Names of the folders in a folder; empty as `listFolder`. */
export function listFolders(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true }).flatMap(entry =>
      entry.isDirectory() ? [entry.name] : [],
    );
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** Number of the inode that a path leads to; null as `readText`. */
export function readInode(path: string): number | null {
  try {
    return statSync(path).ino;
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** Where a link leads, as it says; null as `readText`, or when it is none. */
export function readLink(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** `MAJOR:MINOR` of the character device that a path leads to; null as `readText`, or when it leads to something else. */
export function readDeviceNumber(path: string): string | null {
  try {
    const file = statSync(path);
    if (!file.isCharacterDevice()) return null;
    const [major, minor] = deviceNumbers(file.rdev);
    return `${major}:${minor}`;
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** Of a device as stat(2) tells it: the kernel packs 12 and 20 bits for user space, new_encode_dev(). */
export function deviceNumbers(device: number): [major: number, minor: number] {
  return [(device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
}
