import type { BpfObject, MapSums } from '../../linux/native.ts';
import { uint64, viewOf } from './latency.ts';

/** Keys that are cgroup ids, one after another. */
export function keysOf(ids: readonly number[]): Buffer {
  const keys = Buffer.alloc(ids.length * 8);
  for (const [i, id] of ids.entries()) keys.writeBigUInt64LE(BigInt(id), i * 8);
  return keys;
}

/** The words of each entry of a map whose keys are numbers of 64 bits. */
export function entriesOf({ count, width, keys, sums }: MapSums): Map<number, Float64Array> {
  const view = viewOf(keys);
  const entries = new Map<number, Float64Array>();
  // A batch may answer an entry twice when the table grows meanwhile: the later one holds.
  for (let entry = 0; entry < count; entry += 1)
    entries.set(uint64(view, entry * 8), sums.subarray(entry * width, (entry + 1) * width));
  return entries;
}

/** The same of these keys alone, as far as they are there. */
export function lookUpSums(
  object: BpfObject,
  map: string,
  keys: readonly number[],
): Map<number, Float64Array> {
  return new Map(
    keys.flatMap(key => {
      const words = object.lookupSums(map, keysOf([key]));
      return words === null ? [] : [[key, words]];
    }),
  );
}

/** What the only entry of an array counts, over all CPUs, by the offset of a field in it. */
export function readStats(object: BpfObject, map = 'stats'): (offset: number) => number {
  const words = object.lookupSums(map, Buffer.alloc(4));
  return offset => words?.[offset / 8] ?? 0;
}

/** How often a program was interrupted by an event of its own kind. */
export function missedRuns(object: BpfObject): number {
  return Object.values(object.programStats()).reduce((n, { missed }) => n + missed, 0);
}
