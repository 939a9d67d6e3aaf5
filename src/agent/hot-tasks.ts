import type { AgentConfig } from '../contract/config.ts';
import type { VcpuThread } from '../linux/vcpus.ts';
import type { TaskTotals } from './probes/sched-layout.ts';

/** `start`: of its series, seconds since the epoch. `vcpu`: which one of a VM it runs; null: none. */
export type HotTask = TaskTotals & { readonly start: number; readonly vcpu: number | null };

/** A vCPU thread, and a cgroup of its VM. */
export type Vcpu = VcpuThread & { readonly cgroupId: number };

export type HotTasks = {
  /**
   * Takes the tasks whose totals have changed; answers the K that ran and waited most since the last time, and all of `vcpus`,
   * also those that did nothing meanwhile.
   */
  readonly take: (changed: readonly TaskTotals[], vcpus: readonly Vcpu[]) => HotTask[];
  /** Hot tasks of some cgroups, hottest first: for a placement. */
  readonly of: (cgroupIds: { has(id: number): boolean }) => number[];
};

/**
 * The hottest K (`config.hotTasks` at the time) tasks of the host. What it remembers is bounded by the tasks that changed in the last interval, and the vCPUs. A series
 * begins with its task, or with the probe (`began`) for those that are older: so it is the same one after a task was not hot
 * for a while. `booted`: seconds since the epoch; ticks are counted from there.
 */
export function createHotTasks(
  config: Pick<AgentConfig, 'hotTasks'>,
  began: number,
  booted: number,
): HotTasks {
  let before = new Map<string, number>();
  let hot: HotTask[] = [];
  let known = new Map<string, TaskTotals>();
  return {
    take: (changed, vcpus) => {
      const seen = new Map<string, number>();
      const ranked = changed.map(task => {
        const load = task.runNs + task.waitNs;
        seen.set(keyOf(task), load);
        return { task, grown: load - (before.get(keyOf(task)) ?? 0) };
      });
      before = seen;
      const moving = new Map(changed.map(task => [keyOf(task), task]));
      const indexes = new Map(vcpus.map(vcpu => [keyOf(vcpu), vcpu.index]));
      known = new Map(
        vcpus.map(vcpu => {
          const key = keyOf(vcpu);
          return [key, moving.get(key) ?? known.get(key) ?? { ...vcpu, ...nothing }];
        }),
      );
      const hottest = ranked
        .sort((a, b) => b.grown - a.grown)
        .slice(0, config.hotTasks)
        .map(({ task }) => task)
        .filter(task => !known.has(keyOf(task)));
      hot = [...hottest, ...known.values()].map(task => ({
        ...task,
        vcpu: indexes.get(keyOf(task)) ?? null,
        start: Math.max(began, booted + task.startTicks / 100),
      }));
      return hot;
    },
    of: cgroupIds => hot.filter(task => cgroupIds.has(task.cgroupId)).map(task => task.tid),
  };
}

const nothing = {
  runNs: 0,
  waitNs: 0,
  throttledNs: 0,
  blockedNs: [],
  voluntarySwitches: 0,
  involuntarySwitches: 0,
  migrations: 0,
  nodeMigrations: 0,
};

function keyOf({ tid, startTicks }: { tid: number; startTicks: number }): string {
  return `${tid}@${startTicks}`;
}
