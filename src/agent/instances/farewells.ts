import type { LivingInstance } from './instances.ts';

/** Exports that a farewell is part of, when one fails: then its last totals are lost, as the failed exports say. */
const mostTries = 10;

/** Ends that wait for an export; past this the oldest go without. */
const mostWaiting = 1000;

export type Farewells = {
  readonly add: (ended: readonly LivingInstance[]) => void;
  /**
   * What the next export is to carry, of each instance id the first alone: the points of two lives under one name have a time each.
   * `delivered`: the last one arrived, and what it carried is done with.
   */
  readonly take: (delivered: boolean) => LivingInstance[];
  /** All whose farewell has not arrived. */
  readonly waiting: () => readonly LivingInstance[];
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
      const leaving = new Map<string, LivingInstance>();
      for (const { living, tries } of waiting) {
        if (tries > 0 && (delivered || tries >= mostTries)) {
          done(living);
          continue;
        }
        const isFirst = !leaving.has(living.instance.id);
        if (isFirst) leaving.set(living.instance.id, living);
        kept.push({ living, tries: isFirst ? tries + 1 : tries });
      }
      waiting = kept;
      return [...leaving.values()];
    },
    waiting: () => waiting.map(({ living }) => living),
  };
}
