import { readTaskStat } from '../../linux/procfs.ts';
import type { Roots } from '../../linux/roots.ts';

/** Whether a task (`TID@TICKS`) lives still; another one that has its tid by now is not it. */
export function isLivingTask(roots: Roots, task: string): boolean {
  const [tid, ticks] = task.split('@').map(Number);
  return tid !== undefined && readTaskStat(roots, tid)?.startTicks === ticks;
}
