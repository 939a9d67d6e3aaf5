import type { AgentConfig } from '../../contract/config.ts';
import type { VcpuThread } from '../../linux/vcpus.ts';
import type { RankedTask, TaskTotals } from '../probes/sched-layout.ts';
import type { TaskStarts } from './task-starts.ts';

/** `start`: of its series, seconds since the epoch. `vcpu`: which one of a VM it runs; null: none. */
export type HotTask = TaskTotals & { readonly start: number; readonly vcpu: number | null };

export type HotTasks = {
  /**
   * Takes the tasks whose totals have changed; answers the K that ran, waited and were throttled most since the last time, and
   * all of `vcpus` whose totals are known, also those that did nothing meanwhile.
   */
  readonly take: (changed: readonly RankedTask[], vcpus: readonly VcpuThread[]) => HotTask[];
  /** Hot tasks of some cgroups, hottest first: for a placement. */
  readonly of: (cgroupIds: { has(id: number): boolean }) => number[];
};

/**
 * The hottest K (`config.hotTasks` at the time) tasks of the host. What it remembers is bounded by K, and the vCPUs. A series
 * begins with its task, or with the probe for those that are older: so it is the same one after a task was not hot for a while.
 */
export function createHotTasks(
  config: Pick<AgentConfig, 'hotTasks'>,
  starts: TaskStarts,
): HotTasks {
  let hot: HotTask[] = [];
  let known = new Map<number, TaskTotals>();
  return {
    take: (changed, vcpus) => {
      starts.look();
      const grown = new Float64Array(changed.length);
      const ranks = new Uint32Array(changed.length);
      for (let i = 0; i < changed.length; i += 1) {
        grown[i] = changed[i]?.grownNs ?? 0;
        ranks[i] = i;
      }
      ranks.sort((a, b) => (grown[b] ?? 0) - (grown[a] ?? 0));
      const indexes = new Map(vcpus.map(vcpu => [keyOf(vcpu), vcpu.index]));
      // By tid first: of a script's task anything else is read of /proc.
      const tids = new Set(vcpus.map(({ tid }) => tid));
      const moving = new Map<number, RankedTask>();
      for (const task of vcpus.length > 0 ? changed : [])
        if (tids.has(task.tid) && indexes.has(keyOf(task))) moving.set(keyOf(task), task);
      // What one that rests has done was told before, it may be as of a hot task: it is known when it does something again.
      known = new Map(
        vcpus.flatMap(vcpu => {
          const key = keyOf(vcpu);
          const totals = moving.get(key)?.totals() ?? known.get(key);
          return totals ? [[key, totals] as const] : [];
        }),
      );
      const hottest = [...ranks.subarray(0, config.hotTasks)]
        .flatMap(i => changed[i] ?? [])
        .filter(task => !tids.has(task.tid) || !known.has(keyOf(task)))
        .flatMap(task => task.totals() ?? []);
      hot = [...hottest, ...known.values()].map(task => ({
        ...task,
        vcpu: indexes.get(keyOf(task)) ?? null,
        start: starts.of(task.startTicks),
      }));
      return hot;
    },
    of: cgroupIds => hot.filter(task => cgroupIds.has(task.cgroupId)).map(task => task.tid),
  };
}

/** Exact up to 2^53; a tid is below 2^22, and no other task had the same 2^31 ticks (248 days) ago and has done something just now. */
function keyOf({ tid, startTicks }: { tid: number; startTicks: number }): number {
  return tid + (startTicks % 2 ** 31) * 2 ** 22;
}
