import type { TaskTotals } from './probes/sched.ts';

export type HotTask = TaskTotals & { readonly start: number };

export type HotTasks = {
  /** Takes the tasks whose totals have changed; answers the K that ran and waited most since the last time. */
  readonly take: (changed: readonly TaskTotals[], now: number) => HotTask[];
  /** Hot tasks of a cgroup, hottest first: for its placement. */
  readonly of: (cgroupId: number) => number[];
};

/**
 * The hottest K tasks of the host. What it remembers of a task is bounded by the tasks that changed in the last interval:
 * a task that slept through one begins its series anew when it is hot again, with the totals that the kernel kept.
 */
export function createHotTasks(k: number): HotTasks {
  let before = new Map<string, { load: number; start: number }>();
  let hot: HotTask[] = [];
  return {
    take: (changed, now) => {
      const seen = new Map<string, { load: number; start: number }>();
      const ranked = changed.map(task => {
        const key = `${task.tid}@${task.startTicks}`;
        const load = task.runNs + task.waitNs;
        const start = before.get(key)?.start ?? now;
        seen.set(key, { load, start });
        return { task: { ...task, start }, grown: load - (before.get(key)?.load ?? 0) };
      });
      before = seen;
      hot = ranked
        .sort((a, b) => b.grown - a.grown)
        .slice(0, k)
        .map(entry => entry.task);
      return hot;
    },
    of: cgroupId => hot.filter(task => task.cgroupId === cgroupId).map(task => task.tid),
  };
}
