import type { ChangedTask, TaskTotals } from '../../../src/agent/probes/sched-layout.ts';

/** A task as a reading of the probe has it. */
export function changedTask(totals: TaskTotals): ChangedTask {
  const { tid, startTicks, runNs, waitNs } = totals;
  return { tid, startTicks, loadNs: runNs + waitNs, totals: () => totals };
}
