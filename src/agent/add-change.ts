import { latencySlots } from './probes/latency.ts';
import type { SchedTotals } from './probes/sched.ts';

export function emptyTotals(): SchedTotals {
  return {
    runNs: 0,
    waitNs: 0,
    throttledNs: 0,
    migrations: 0,
    latencyCount: 0,
    latencySumNs: 0,
    slots: new Float64Array(latencySlots),
  };
}

const noTotals: SchedTotals = emptyTotals();

/**
 * Adds to `sum` what came between two readings of one key, and answers it. A key that was made anew in the kernel begins
 * at zero again: then all of `next` is new, and `sum` never falls.
 */
export function addChange(
  sum: SchedTotals,
  last: SchedTotals,
  next: SchedTotals,
): { runNs: number; waitNs: number; throttledNs: number } {
  const anew = next.runNs < last.runNs || next.latencyCount < last.latencyCount;
  const from = anew ? noTotals : last;
  const change = {
    runNs: Math.max(0, next.runNs - from.runNs),
    waitNs: Math.max(0, next.waitNs - from.waitNs),
    throttledNs: Math.max(0, next.throttledNs - from.throttledNs),
  };
  sum.runNs += change.runNs;
  sum.waitNs += change.waitNs;
  sum.throttledNs += change.throttledNs;
  sum.migrations += Math.max(0, next.migrations - from.migrations);
  if (next.latencyCount === from.latencyCount) return change;
  sum.latencyCount += next.latencyCount - from.latencyCount;
  sum.latencySumNs += Math.max(0, next.latencySumNs - from.latencySumNs);
  for (let slot = 0; slot < latencySlots; slot += 1)
    sum.slots[slot] = (sum.slots[slot] ?? 0) + (next.slots[slot] ?? 0) - (from.slots[slot] ?? 0);
  return change;
}
