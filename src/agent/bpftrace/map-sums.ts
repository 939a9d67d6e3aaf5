import type { BpftraceRecord } from './output.ts';

/** What the maps of a script have come to, over all its runs. */
export type MapSums = {
  /** By key, its parts joined by commas as bpftrace does; '' where a map has none. Never falls while a key stays. */
  readonly of: (map: string) => Map<string, number>;
  /** Drops what these keys, and those that begin with all of their parts, hold: they are not there until they grow, and begin at 0. */
  readonly drop: (keys: readonly string[]) => void;
  /** By map: how many keys bpftrace holds, and how many of them were dropped, which it keeps as long as it runs. */
  readonly held: () => readonly { readonly keys: number; readonly dropped: number }[];
  readonly take: (record: Extract<BpftraceRecord, { type: 'map' }>) => void;
  /** A run is over; the next counts from zero. */
  readonly begin: () => void;
};

/** Of earlier runs, of this one, and what of both was dropped; null: nothing ever was. */
type Sum = { before: number; now: number; dropped: number | null };

/** Sums of `count()` and `sum()`, in the maps of these names; what is dropped is dropped in those of `droppable`. */
export function createMapSums(
  names: readonly string[],
  droppable: readonly string[] = names,
): MapSums {
  const maps = new Map(names.map(name => [name, new Map<string, Sum>()]));
  const isGone = ({ before, now, dropped }: Sum): boolean => before + now === dropped;
  return {
    of: name => {
      const sums = new Map<string, number>();
      for (const [key, sum] of maps.get(name) ?? [])
        if (!isGone(sum)) sums.set(key, sum.before + sum.now - (sum.dropped ?? 0));
      return sums;
    },
    drop: keys => {
      const parts = keys[0]?.split(',').length ?? 0;
      const all = new Set(keys);
      for (const name of droppable)
        for (const [key, sum] of maps.get(name) ?? [])
          if (all.has(key.split(',').slice(0, parts).join(','))) sum.dropped = sum.before + sum.now;
    },
    held: () =>
      [...maps.values()].map(sums => ({
        keys: sums.size,
        dropped: [...sums.values()].filter(isGone).length,
      })),
    take: ({ name, entries }) => {
      const sums = maps.get(name);
      for (const [key, value] of entries) {
        if (!sums || typeof value !== 'number') continue;
        const sum = sums.get(key ?? '');
        if (sum) sum.now = value;
        else sums.set(key ?? '', { before: 0, now: value, dropped: null });
      }
    },
    begin: () => {
      for (const sums of maps.values())
        for (const [key, sum] of sums) {
          if (isGone(sum)) sums.delete(key);
          sum.before += sum.now;
          sum.now = 0;
        }
    },
  };
}
