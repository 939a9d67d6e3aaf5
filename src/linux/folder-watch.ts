import { type FSWatcher, watch } from 'node:fs';
import { describeError } from '../contract/errors.ts';

/** Who speaks more often than that between two looks is not listened to until the next: nobody can keep us busy. */
const mostEvents = 16;

/** It is gone, for now or for good. */
const goneCodes = new Set(['ENOENT', 'ENOTDIR']);
/** As many are watched as this user may (fs.inotify.max_user_watches, max_user_instances), or these may not be. */
const refusalCodes = new Set(['ENOSPC', 'EMFILE', 'ENFILE', 'ENOMEM', 'EACCES', 'EPERM']);

/** What happened in the folders since the last look. */
export type FolderChanges = {
  /** Those where a file that matters was written, or may have been. */
  readonly written: ReadonlySet<string>;
  /** Whether a folder came or went in one of them, or may have. */
  readonly moved: boolean;
};

export type FolderWatch = {
  /** From now on; one that is watched already stays so, and one that was refused is tried again. */
  readonly add: (folder: string) => void;
  readonly remove: (folder: string) => void;
  readonly take: () => FolderChanges;
  /** Whether none was refused. */
  readonly complete: () => boolean;
  readonly stop: () => void;
};

type Watched = { watcher: FSWatcher | null; events: number };

/**
 * Watches files of folders by inotify(7), which tells of what is written through the file system, as to the files of cgroups,
 * and not of what a kernel changes by itself. `matters`: by a file's name. `whenRefused`: none was before, and one is now.
 */
export function createFolderWatch(
  matters: (file: string) => boolean,
  whenRefused: (why: string) => void = () => undefined,
): FolderWatch {
  const folders = new Map<string, Watched>();
  const refused = new Set<string>();
  const unheard = new Set<string>();
  let spoke = new Set<Watched>();
  let written = new Set<string>();
  let moved = false;

  const silence = (folder: string, watched: Watched): void => {
    watched.watcher?.close();
    watched.watcher = null;
    unheard.add(folder);
  };

  const hear = (folder: string, watched: Watched, kind: string, name: string | null): void => {
    spoke.add(watched);
    watched.events += 1;
    if (kind === 'rename') {
      moved = true;
      // What is watched under that name is another folder now, or none.
      const child = `${folder}/${name}`;
      const within = folders.get(child);
      if (within?.watcher) silence(child, within);
    } else if (name === null || matters(name)) written.add(folder);
    if (watched.events > mostEvents) silence(folder, watched);
  };

  const listen = (folder: string, watched: Watched): void => {
    try {
      const watcher = watch(folder, { persistent: false }, (kind, name) =>
        hear(folder, watched, kind, name),
      );
      watcher.on('error', () => silence(folder, watched));
      watched.watcher = watcher;
      unheard.delete(folder);
      refused.delete(folder);
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (refusalCodes.has(code)) {
        if (refused.size === 0) whenRefused(describeError(error));
        refused.add(folder);
      } else if (goneCodes.has(code)) unheard.add(folder);
      else throw error;
    }
  };

  return {
    add: folder => {
      const watched = folders.get(folder) ?? { watcher: null, events: 0 };
      folders.set(folder, watched);
      if (watched.watcher === null) listen(folder, watched);
    },
    remove: folder => {
      folders.get(folder)?.watcher?.close();
      folders.delete(folder);
      refused.delete(folder);
      unheard.delete(folder);
    },
    take: () => {
      for (const watched of spoke) watched.events = 0;
      spoke = new Set();
      for (const folder of [...unheard]) {
        const watched = folders.get(folder);
        if (!watched) continue;
        listen(folder, watched);
        // What happened meanwhile was not heard.
        if (watched.watcher) written.add(folder);
        moved = true;
      }
      const changes = { written, moved };
      [written, moved] = [new Set(), false];
      return changes;
    },
    complete: () => refused.size === 0,
    stop: () => {
      for (const { watcher } of folders.values()) watcher?.close();
      folders.clear();
      unheard.clear();
    },
  };
}
