import type { ChangedTask } from '../probes/sched-layout.ts';

/** What is known of a task since some time: that it did not run, or that it did, and is who it was. `cpu`: where it ran last. */
export type Since = { readonly cpu: number } | 'rested';

export type LastRuns = {
  /** The tasks that ran or waited since the last time, as of `now` (monotonic). */
  readonly take: (
    changed: readonly Pick<ChangedTask, 'tid' | 'startTicks' | 'nameHash' | 'cpu'>[],
    now: number,
  ) => void;
  /** Null where it is not known, or the task is another one since (monotonic), or bears another name. */
  readonly since: (tid: number, since: number) => Since | null;
};

/** `since`: when it was first seen as who it is. */
type Run = { startTicks: number; nameHash: number; cpu: number; since: number; at: number };

/** When tasks were last seen to have run, and as whom. Remembers those of the last `keptSeconds`. */
export function createLastRuns(keptSeconds: number): LastRuns {
  const runs = new Map<number, Run>();
  let takenAt = Number.NEGATIVE_INFINITY;
  return {
    take: (changed, now) => {
      takenAt = now;
      for (const { tid, startTicks, nameHash, cpu } of changed) {
        const run = runs.get(tid);
        if (!run) {
          runs.set(tid, { startTicks, nameHash, cpu, since: now, at: now });
          continue;
        }
        if (run.startTicks !== startTicks || run.nameHash !== nameHash) run.since = now;
        run.startTicks = startTicks;
        run.nameHash = nameHash;
        run.cpu = cpu;
        run.at = now;
      }
      runs.forEach(({ at }, tid) => {
        if (at < now - keptSeconds) runs.delete(tid);
      });
    },
    since: (tid, since) => {
      if (takenAt <= since || since < takenAt - keptSeconds) return null;
      const run = runs.get(tid);
      if (!run || run.at < since) return 'rested';
      return run.since < since ? run : null;
    },
  };
}
