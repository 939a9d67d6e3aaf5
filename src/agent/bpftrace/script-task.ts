import { readTaskAccount, readTaskStat } from '../../linux/procfs.ts';
import type { Roots } from '../../linux/roots.ts';
import type { RankedTask } from '../probes/sched-layout.ts';

/** A task that a script found to have run or waited: who it is, and what it did since it began, is read of /proc when it is asked for. */
export function createTask(
  roots: Roots,
  tid: number,
  cgroupId: number,
  grownNs: number,
): RankedTask {
  return {
    tid,
    grownNs,
    get startTicks() {
      return readTaskStat(roots, tid)?.startTicks ?? Number.NaN;
    },
    totals: () => {
      const stat = readTaskStat(roots, tid);
      const account = readTaskAccount(roots, tid);
      return (
        stat &&
        account && {
          ...account,
          cgroupId,
          tid,
          startTicks: stat.startTicks,
          name: stat.name,
          // It is part of the wait there.
          throttledNs: 0,
          blockedNs: [],
          migrations: 0,
          nodeMigrations: 0,
        }
      );
    },
  };
}
