import type { Say } from '../../contract/ports.ts';
import { type CgroupLayout, cgroupFolder, parentPath } from '../../linux/cgroups.ts';
import { createFolderWatch } from '../../linux/folder-watch.ts';
import type { Native } from '../../linux/native.ts';
import type { LivingInstance } from './instances.ts';

/** Tells who wrote to what: a look at the files of each instance every second would cost more than all else of a placement. */
export type CgroupChanges = {
  /**
   * Follows an instance, whose cpuset is there, and lets go what was followed of it before and is no longer its own. Answers
   * whether that is new: what was read of it before may have changed since.
   */
  readonly follow: (living: LivingInstance, cpusetPath: string | null) => boolean;
  readonly forget: (living: LivingInstance) => void;
  /** Since the last call: who may be given something else by now, and whether a cgroup may have come or gone. */
  readonly take: () => { readonly changed: ReadonlySet<LivingInstance>; readonly moved: boolean };
  /** Whether all of it is seen; the kernel limits what a user may watch. */
  readonly complete: () => boolean;
  readonly stop: () => void;
};

/** Weights, quotas and cpusets, and which cgroups have them; not that a task was moved, or a limit of memory set. */
const given = ['cpu.', 'cpuset.', 'cgroup.subtree_control'];

/** Follows the files that say what instances are given: their own cgroups' and those of all cgroups above. */
export function createCgroupChanges({
  native,
  layout,
  say,
}: {
  readonly native: Pick<Native, 'openFolderWatch'>;
  readonly layout: CgroupLayout;
  readonly say: Say;
}): CgroupChanges {
  const watch = createFolderWatch(native, given, why => {
    const limits = /\b(EMFILE|ENOSPC)\b/.test(why)
      ? '. The limits are fs.inotify.max_user_watches and fs.inotify.max_user_instances'
      : '';
    say(
      'warn',
      `agent: not all cgroups can be watched (${why}); what instances are given is looked at by turns${limits}`,
    );
  });
  const users = new Map<string, Set<LivingInstance>>();
  const followed = new Map<LivingInstance, ReadonlySet<string>>();

  const letGo = (living: LivingInstance, folder: string): void => {
    const of = users.get(folder);
    if (!of?.delete(living) || of.size > 0) return;
    users.delete(folder);
    watch.remove(folder);
  };

  return {
    follow: (living, cpusetPath) => {
      const folders = foldersOf(layout, living, cpusetPath);
      const before = followed.get(living) ?? new Set();
      followed.set(living, folders);
      for (const folder of before) if (!folders.has(folder)) letGo(living, folder);
      for (const folder of folders) {
        const of = users.get(folder) ?? new Set();
        users.set(folder, of.add(living));
        watch.add(folder);
      }
      return [...folders].some(folder => !before.has(folder));
    },
    forget: living => {
      for (const folder of followed.get(living) ?? []) letGo(living, folder);
      followed.delete(living);
    },
    take: () => {
      const { written, moved } = watch.take();
      const changed = new Set<LivingInstance>();
      for (const folder of written)
        for (const living of users.get(folder) ?? []) changed.add(living);
      return { changed, moved };
    },
    complete: watch.complete,
    stop: watch.stop,
  };
}

function foldersOf(
  layout: CgroupLayout,
  { path, members }: LivingInstance,
  cpusetPath: string | null,
): Set<string> {
  const folders = new Set<string>();
  const addFrom = (hierarchy: string, from: string | null): void => {
    for (let at = from; at !== null; at = parentPath(at)) folders.add(cgroupFolder(hierarchy, at));
  };
  addFrom(layout.cpu, path);
  // Where a VM's other cgroups come and go.
  for (const member of members.values()) addFrom(layout.cpu, parentPath(member));
  if (layout.cpuset !== null && cpusetPath !== null) addFrom(layout.cpuset, cpusetPath);
  return folders;
}
