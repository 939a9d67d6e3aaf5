import type { LivingInstance } from '../instances/instances.ts';
import type { Counters } from './counters.ts';
import type { Lives } from './lives.ts';
import { createStrays } from './strays.ts';
import { createTally, type Tally } from './tally.ts';

/** What a probe's map has by cgroup, added up per life. */
export type ProbeTally<Totals> = {
  readonly of: Tally['of'];
  /** Adds a reading. */
  readonly take: (totals: ReadonlyMap<number, Totals>, lives: Lives) => void;
  /** Drops of these cgroups, which are in the map and belong to no life, those that are not to stay there. */
  readonly dropStrays: (cgroupIds: Iterable<number>, lives: Lives) => void;
  /** Takes what came since the last reading of cgroups that are gone, and drops them from the map. */
  readonly forget: (gone: ReadonlyMap<number, LivingInstance | null>) => void;
  /** Events of cgroups that were dropped and belonged to no life. */
  readonly unnamed: () => number;
};

export function createProbeTally<Totals>(options: {
  readonly width: number;
  readonly countersOf: (totals: Totals) => Counters;
  /** How many events these totals are. */
  readonly eventsOf: (totals: Totals) => number;
  /** Drops cgroups from the map; answers what they came to. */
  readonly drop: (cgroupIds: readonly number[]) => ReadonlyMap<number, Totals>;
  /** Which of these strays are not to stay; absent: all of them. */
  readonly goneOf?: (cgroupIds: readonly number[]) => readonly number[];
  /** Is told to whom something was added. */
  readonly added?: (living: LivingInstance) => void;
}): ProbeTally<Totals> {
  const { countersOf, eventsOf, goneOf = ids => ids, added } = options;
  const tally = createTally(options.width);
  const strays = createStrays();
  let unnamed = 0;

  const add = (living: LivingInstance, id: number, totals: Totals): void => {
    tally.add(living, id, countersOf(totals));
    added?.(living);
  };
  const drop = (ids: readonly number[], lives: Lives): void => {
    for (const [id, totals] of options.drop(ids)) {
      const one = lives.get(id);
      if (one) add(one, id, totals);
      else unnamed += eventsOf(totals);
    }
    tally.forget(ids);
  };

  return {
    of: tally.of,
    take: (totals, lives) => {
      for (const [id, found] of totals) {
        const one = lives.get(id);
        if (one) add(one, id, found);
      }
    },
    dropStrays: (ids, lives) => drop(goneOf(strays.take(ids)), lives),
    forget: gone => drop([...gone.keys()], gone),
    unnamed: () => unnamed,
  };
}
