import { statSync } from 'node:fs';
import { deviceNumbers, readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/**
 * Processes that hold a lock of a file or folder, as /proc/locks tells. Those of another pid namespace it does not show, and of a file
 * of btrfs or an overlay it has another device than stat(2): then none.
 * @see https://man7.org/linux/man-pages/man5/proc_locks.5.html
 */
export function findLockHolders(roots: Roots, path: string): number[] {
  const { dev, ino } = statSync(path);
  const id = [...deviceNumbers(dev).map(each => each.toString(16).padStart(2, '0')), ino].join(':');
  const lines = (readText(`${roots.proc}/locks`) ?? '').split('\n');
  // `1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; `1: -> …` waits for one.
  return lines.flatMap(line => {
    const [, , , , tgid, file] = line.split(/\s+/);
    return file === id ? Number(tgid) : [];
  });
}
