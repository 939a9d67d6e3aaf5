import type { LivingInstance } from '../instances/instances.ts';
import type { Counters } from './counters.ts';

/** Sums of counters per life, over all cgroups that belong to it: they never fall, though cgroups come, go and begin anew. */
export type Tally = {
  /**
   * Adds what came since the last reading of this cgroup. Where there was none, or counters whose sum fell have begun anew, all
   * of it is new.
   */
  readonly add: (living: LivingInstance, cgroupId: number, counters: Counters) => void;
  /** The sums of one life: zeros when nothing was counted. Not to be changed. */
  readonly of: (living: LivingInstance) => Counters;
  readonly forget: (cgroupIds: Iterable<number>) => void;
};

/** What it remembers is bounded by the cgroups that were not forgotten, and by the lives that somebody still holds. */
export function createTally(length: number): Tally {
  const sums = new WeakMap<LivingInstance, Counters>();
  const last = new Map<number, Counters>();
  const zeros = new Float64Array(length);
  return {
    add: (living, id, counters) => {
      const before = last.get(id) ?? zeros;
      const from = total(counters) < total(before) ? zeros : before;
      const sum = sums.get(living) ?? new Float64Array(length);
      for (let i = 0; i < length; i += 1)
        sum[i] = (sum[i] ?? 0) + Math.max(0, (counters[i] ?? 0) - (from[i] ?? 0));
      sums.set(living, sum);
      last.set(id, counters);
    },
    of: living => sums.get(living) ?? zeros,
    forget: ids => {
      for (const id of ids) last.delete(id);
    },
  };
}

function total(counters: Counters): number {
  let sum = 0;
  for (let i = 0; i < counters.length; i += 1) sum += counters[i] ?? 0;
  return sum;
}
