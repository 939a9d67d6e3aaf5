import type { LivingInstance } from './instances.ts';

/** Exports that a farewell is part of, when one fails: then its last totals are lost, as the failed exports say. */
const mostTries = 10;

/** Ends that wait for an export; past this the oldest go without. */
const mostWaiting = 1000;

export type Farewells = {
  readonly add: (ended: readonly LivingInstance[]) => void;
  /** What the next export is to carry. `delivered`: the last one arrived, and what it carried is done with. */
  readonly take: (delivered: boolean) => LivingInstance[];
};

/** The last totals of lives that have ended: told until an export has carried them. `done` is called once for each. */
export function createFarewells(done: (living: LivingInstance) => void): Farewells {
  let waiting: { living: LivingInstance; tries: number }[] = [];
  return {
    add: ended => {
      waiting.push(...ended.map(living => ({ living, tries: 0 })));
      for (const { living } of waiting.splice(0, waiting.length - mostWaiting)) done(living);
    },
    take: delivered => {
      const kept: typeof waiting = [];
      for (const farewell of waiting) {
        if (farewell.tries > 0 && (delivered || farewell.tries >= mostTries)) done(farewell.living);
        else kept.push({ ...farewell, tries: farewell.tries + 1 });
      }
      waiting = kept;
      return kept.map(farewell => farewell.living);
    },
  };
}
