import type { ChangedTask, TaskTotals } from '../../../src/agent/probes/sched-layout.ts';

/** One that did nothing yet. */
export const idleTask: TaskTotals = {
  cgroupId: 0,
  tid: 0,
  tgid: 0,
  startTicks: 1000,
  name: 'work',
  runNs: 0,
  waitNs: 0,
  throttledNs: 0,
  blockedNs: [],
  voluntarySwitches: 0,
  involuntarySwitches: 0,
  migrations: 0,
  nodeMigrations: 0,
};

/** A task as a reading of the probe has it; `grownNs`: all that it did, unless told. */
export function changedTask(
  totals: TaskTotals,
  cpu = 0,
  grownNs = totals.runNs + totals.waitNs,
): ChangedTask {
  const { tid, startTicks, name } = totals;
  return {
    tid,
    startTicks,
    grownNs,
    cpu,
    nameHash: hashOf(name),
    totals: () => totals,
  };
}

const hashOf = (name: string): number =>
  [...name].reduce((hash, c) => hash * 31 + c.charCodeAt(0), 7);
