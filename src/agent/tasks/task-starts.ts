import { readBootTime } from '../../linux/procfs.ts';
import type { Roots } from '../../linux/roots.ts';

/** When tasks began, in seconds since the epoch: what the kernel tells is ticks since boot. */
export type TaskStarts = {
  /** To be called before the tasks of a reading are asked for. */
  readonly look: () => void;
  /** The same for one task whenever it is asked. Not before what `began` answers: the probe counts since then. */
  readonly of: (startTicks: number) => number;
};

/** Of the kernel's whole seconds: less is rounding. */
const stepSeconds = 1.5;

/**
 * The time of boot is the wall clock less the uptime, and so moves when the clock is set. Tasks seen before keep the start that was
 * told of them; those that begin later begin by the clock as it is then, or they would begin in the future where it was set back.
 */
export function createTaskStarts(roots: Roots, began: () => number): TaskStarts {
  /** `after`: of tasks that began after these ticks. The newest first. */
  const boots = [{ after: Number.NEGATIVE_INFINITY, seconds: readBootTime(roots) ?? 0 }];
  let newestTicks = 0;
  const newest = () => boots[0]?.seconds ?? 0;
  return {
    look: () => {
      const seconds = readBootTime(roots) ?? newest();
      if (Math.abs(seconds - newest()) > stepSeconds)
        boots.unshift({ after: newestTicks, seconds });
    },
    of: startTicks => {
      newestTicks = Math.max(newestTicks, startTicks);
      const boot = boots.find(({ after }) => startTicks > after)?.seconds ?? 0;
      return Math.max(began(), boot + startTicks / 100);
    },
  };
}
