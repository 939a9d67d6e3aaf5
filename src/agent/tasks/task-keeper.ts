import { readTaskStat } from '../../linux/procfs.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Temporal } from '../../otlp/temporality.ts';

/** Has what is kept of series of tasks that have ended dropped, once within an interval. `start`: monotonic, as `now`; `since`: as `keepTasks`. */
export function createTaskKeeper(
  roots: Roots,
  temporal: Pick<Temporal, 'keepTasks'>,
  start: number,
): (now: number, intervalSeconds: number, since: number) => void {
  let last = start;
  return (now, intervalSeconds, since) => {
    if (now - last < intervalSeconds) return;
    last = now;
    temporal.keepTasks(task => {
      const [tid, ticks] = task.split('@').map(Number);
      return tid !== undefined && readTaskStat(roots, tid)?.startTicks === ticks;
    }, since);
  };
}
