import type { ChangedTask, TaskTotals } from '../../../src/agent/probes/sched-layout.ts';

/** A task as a reading of the probe has it. */
export function changedTask(totals: TaskTotals, cpu = 0): ChangedTask {
  const { tid, startTicks, runNs, waitNs, name } = totals;
  return {
    tid,
    startTicks,
    loadNs: runNs + waitNs,
    cpu,
    nameHash: hashOf(name),
    totals: () => totals,
  };
}

const hashOf = (name: string): number =>
  [...name].reduce((hash, c) => hash * 31 + c.charCodeAt(0), 7);
