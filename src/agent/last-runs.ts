import type { ChangedTask } from './probes/sched-layout.ts';

export type LastRuns = {
  /** The tasks that ran or waited since the last time, as of `now` (monotonic). */
  readonly take: (changed: readonly Pick<ChangedTask, 'tid'>[], now: number) => void;
  /** Whether a task may have run since then (monotonic): false only where it is known that it did not. */
  readonly ranSince: (tid: number, since: number) => boolean;
};

/** When tasks were last seen to have run. Remembers those of the last `keptSeconds`. */
export function createLastRuns(keptSeconds: number): LastRuns {
  const ranAt = new Map<number, number>();
  let takenAt = Number.NEGATIVE_INFINITY;
  return {
    take: (changed, now) => {
      takenAt = now;
      for (const { tid } of changed) ranAt.set(tid, now);
      for (const [tid, at] of ranAt) if (at < now - keptSeconds) ranAt.delete(tid);
    },
    ranSince: (tid, since) => {
      if (takenAt <= since || since < takenAt - keptSeconds) return true;
      return (ranAt.get(tid) ?? Number.NEGATIVE_INFINITY) >= since;
    },
  };
}
