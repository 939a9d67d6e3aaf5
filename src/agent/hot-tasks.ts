import { vcpuOf } from '../linux/placement.ts';
import type { TaskTotals } from './probes/sched.ts';

/** `start`: of its series, seconds since the epoch. `vcpu`: which one of a VM it runs; null: none. */
export type HotTask = TaskTotals & { readonly start: number; readonly vcpu: number | null };

export type HotTasks = {
  /** Takes the tasks whose totals have changed; answers the K that ran and waited most since the last time, and all vCPUs. */
  readonly take: (changed: readonly TaskTotals[], isVm: (cgroupId: number) => boolean) => HotTask[];
  /** Hot tasks of some cgroups, hottest first: for a placement. */
  readonly of: (cgroupIds: { has(id: number): boolean }) => number[];
};

/**
 * The hottest K tasks of the host. What it remembers is bounded by the tasks that changed in the last interval. A series
 * begins with its task, or with the probe (`began`) for those that are older: so it is the same one after a task was not hot
 * for a while. `booted`: seconds since the epoch; ticks are counted from there.
 */
export function createHotTasks(k: number, began: number, booted: number): HotTasks {
  let before = new Map<string, number>();
  let hot: HotTask[] = [];
  return {
    take: (changed, isVm) => {
      const seen = new Map<string, number>();
      const ranked = changed.map(task => {
        const key = `${task.tid}@${task.startTicks}`;
        const load = task.runNs + task.waitNs;
        seen.set(key, load);
        return { task, grown: load - (before.get(key) ?? 0) };
      });
      before = seen;
      hot = ranked
        .sort((a, b) => b.grown - a.grown)
        .flatMap(({ task }, rank) => {
          // Anybody can name a thread so; in the cgroup of a VM there are QEMU's own.
          const vcpu = isVm(task.cgroupId) ? vcpuOf(task.name) : null;
          if (rank >= k && vcpu === null) return [];
          return { ...task, vcpu, start: Math.max(began, booted + task.startTicks / 100) };
        });
      return hot;
    },
    of: cgroupIds => hot.filter(task => cgroupIds.has(task.cgroupId)).map(task => task.tid),
  };
}
