import { schedMetrics } from '../../contract/metrics/sched.ts';
import { listCgroupTasks, walkCgroups } from '../../linux/cgroups.ts';
import { emptyTotals } from '../instances/add-change.ts';
import type { SchedTotals } from '../probes/sched-layout.ts';
import type { Source } from '../sources/source.ts';
import type { Scheduler, SchedulerOptions } from './scheduler.ts';

/** Of the time: looking who is there takes no more. */
const mostShare = 0.02;

const untold = new Set(Object.keys(schedMetrics) as (keyof typeof schedMetrics)[]);

/**
 * In the place of a scheduler that cannot be asked: nobody knows what anybody does, but who is there, for all that is told without
 * it. The cgroups that have had tasks of their own are found by walking the hierarchy, once before each export of details at most.
 */
export function absentScheduler(
  { config, layout, clock }: SchedulerOptions,
  trouble: NonNullable<Source['trouble']>,
): Scheduler {
  const present = new Map<number, SchedTotals>();
  let lookAt = Number.NEGATIVE_INFINITY;
  const look = (): void => {
    const began = clock.monotonicSeconds();
    if (began < lookAt) return;
    for (const [id, path] of walkCgroups(layout).paths)
      if (!present.has(id) && listCgroupTasks(layout, path).length > 0)
        present.set(id, emptyTotals());
    const took = clock.monotonicSeconds() - began;
    lookAt = began + Math.max(config.detailIntervalSeconds, took / mostShare);
  };
  return {
    probe: {
      readTotals: () => {
        look();
        return present;
      },
      forget: ids => {
        for (const id of ids) present.delete(id);
      },
      counters: () => ({ events: null, recovered: 0, lost: {}, entries: 0 }),
    },
    source: () => ({
      name: 'sched',
      read: () => undefined,
      samples: () => [],
      host: () => [],
      lost: () => ({}),
      forget: () => undefined,
      trouble,
      stop: () => undefined,
    }),
    runByCpu: () => new Map(),
    maskedThreads: () => null,
    untold,
    stop: async () => undefined,
  };
}
