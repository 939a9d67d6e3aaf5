import { statSync } from 'node:fs';
import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/**
 * Processes that hold a lock of a file or folder, as /proc/locks tells; not those that it does not show: of another pid namespace.
 * @see https://man7.org/linux/man-pages/man5/proc_locks.5.html
 */
export function findLockHolders(roots: Roots, path: string): number[] {
  // The device is not compared: of a file in an overlay stat(2) tells another one.
  const inode = String(statSync(path).ino);
  const lines = (readText(`${roots.proc}/locks`) ?? '').split('\n');
  // `1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; `1: -> …` waits for one.
  return lines.flatMap(line => {
    const [, , , , tgid, file] = line.split(/\s+/);
    return file?.split(':')[2] === inode ? Number(tgid) : [];
  });
}
