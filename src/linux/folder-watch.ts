import { describeError } from '../contract/errors.ts';
import type { Native } from './native.ts';

/** It is gone, for now or for good. */
const goneCodes = new Set(['ENOENT', 'ENOTDIR']);

/** What happened in the folders since the last look. */
export type FolderChanges = {
  /** Those where a file was written that matters, or may have been. */
  readonly written: ReadonlySet<string>;
  /** Whether a folder came or went in one of them, or may have. */
  readonly moved: boolean;
};

export type FolderWatch = {
  /** From now on; one that is watched already stays so, and one that was refused or gone is tried again. */
  readonly add: (folder: string) => void;
  readonly remove: (folder: string) => void;
  readonly take: () => FolderChanges;
  /** Whether none was refused. */
  readonly complete: () => boolean;
  readonly stop: () => void;
};

/**
 * Watches files of folders, by the beginning of their names, with inotify(7). It tells of what is written through the file system,
 * as to the files of cgroups; of what a kernel changes by itself only where it says so. `whenRefused`: the first time that a folder
 * cannot be watched.
 */
export function createFolderWatch(
  native: Pick<Native, 'openFolderWatch'>,
  prefixes: readonly string[],
  whenRefused: (why: string) => void,
): FolderWatch {
  /** Null: gone, or refused. */
  const watches = new Map<string, number | null>();
  const folders = new Map<number, string>();
  const refused = new Set<string>();
  let wasRefused = false;

  const refuse = (folder: string, error: unknown): void => {
    refused.add(folder);
    if (!wasRefused) whenRefused(describeError(error));
    wasRefused = true;
  };

  const open = () => {
    try {
      return native.openFolderWatch(prefixes);
    } catch (error) {
      return { error };
    }
  };
  const queue = open();

  /** Its watch now; another one than before where it is another folder. */
  const listen = (folder: string): number | null => {
    refused.delete(folder);
    if ('error' in queue) {
      refuse(folder, queue.error);
      return null;
    }
    try {
      return queue.add(folder);
    } catch (error) {
      if (!goneCodes.has((error as NodeJS.ErrnoException).code ?? '')) refuse(folder, error);
      return null;
    }
  };

  const hold = (folder: string, watch: number | null): void => {
    const before = watches.get(folder) ?? null;
    watches.set(folder, watch);
    if (watch === before) return;
    if (before !== null) letGo(before);
    if (watch !== null) folders.set(watch, folder);
  };

  const letGo = (watch: number): void => {
    folders.delete(watch);
    if (!('error' in queue)) queue.remove(watch);
  };

  /** What is watched under a name of which nobody knows what has it now, and all below. */
  const watchedFrom = (folder: string): string[] =>
    watches.has(folder)
      ? [...watches.keys()].filter(one => one === folder || one.startsWith(`${folder}/`))
      : [];

  return {
    add: folder => {
      if ((watches.get(folder) ?? null) === null) hold(folder, listen(folder));
    },
    remove: folder => {
      const watch = watches.get(folder) ?? null;
      if (watch !== null) letGo(watch);
      watches.delete(folder);
      refused.delete(folder);
    },
    take: () => {
      if ('error' in queue) return { written: new Set(), moved: false };
      const { written, moved, overflowed } = queue.take();
      const changed = new Set([...written].flatMap(watch => folders.get(watch) ?? []));
      const again = overflowed
        ? watches.keys()
        : new Set(
            moved.flatMap(({ watch, name }) => {
              const parent = folders.get(watch);
              return parent === undefined ? [] : watchedFrom(`${parent}/${name}`);
            }),
          );
      for (const folder of [...again]) {
        hold(folder, listen(folder));
        if (watches.get(folder) !== null) changed.add(folder);
      }
      return { written: changed, moved: overflowed || moved.length > 0 };
    },
    complete: () => refused.size === 0,
    stop: () => {
      if (!('error' in queue)) queue.close();
      watches.clear();
      folders.clear();
    },
  };
}
