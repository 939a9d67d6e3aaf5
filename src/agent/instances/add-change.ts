import type { SchedTotals } from '../probes/sched-layout.ts';

export function emptyTotals(): SchedTotals {
  return { runNs: 0, waitNs: 0, throttledNs: 0 };
}

/** Whether it was seen to do anything: where nobody tells, or it is new, it is not known to rest either. */
export function hasRun({ runNs, waitNs }: SchedTotals): boolean {
  return runNs + waitNs > 0;
}

const noTotals: SchedTotals = emptyTotals();

/**
 * Adds to `sum` what came between two readings of one key, and answers it. A key that was made anew in the kernel begins
 * at zero again: then all of `next` is new, and `sum` never falls.
 */
export function addChange(sum: SchedTotals, last: SchedTotals, next: SchedTotals): SchedTotals {
  const anew = next.runNs < last.runNs || next.waitNs < last.waitNs;
  const from = anew ? noTotals : last;
  const change = {
    runNs: next.runNs - from.runNs,
    waitNs: next.waitNs - from.waitNs,
    throttledNs: Math.max(0, next.throttledNs - from.throttledNs),
  };
  sum.runNs += change.runNs;
  sum.waitNs += change.waitNs;
  sum.throttledNs += change.throttledNs;
  return change;
}
