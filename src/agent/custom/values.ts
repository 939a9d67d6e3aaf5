import type { ExplicitHistogram } from '../../contract/telemetry.ts';
import type { MapValue } from '../bpftrace/output.ts';
import type { Counters } from '../sources/counters.ts';
import type { CustomHeader } from './header.ts';
import type { Buckets } from './program.ts';

export type ValueRefusal =
  /** It is of another kind than the header says, or has a bucket that the script's own text does not. */
  | 'wrong_value'
  /** A counter below zero. */
  | 'negative';

/** Reads values of one metric's map as counters (one number, or the counts of its buckets), and tells those as samples. */
export type ValueReader = {
  readonly read: (value: MapValue) => Counters | ValueRefusal;
  readonly tell: (counters: Counters) => number | ExplicitHistogram;
};

export function createValueReader(
  { type, scale }: Pick<CustomHeader, 'type' | 'scale'>,
  buckets: Buckets,
): ValueReader {
  if (type === 'histogram') return histogramReader(buckets, scale);
  return {
    read: value => {
      if (typeof value !== 'number' || !Number.isFinite(value)) return 'wrong_value';
      return type === 'counter' && value < 0 ? 'negative' : Float64Array.of(value);
    },
    tell: counters => (counters[0] ?? 0) * scale,
  };
}

function histogramReader({ bounds }: Buckets, scale: number): ValueReader {
  const indexOf = new Map(bounds.map((bound, i) => [bound, i]));
  const scaled = bounds.map(bound => bound * scale);
  const highest = bounds.at(-1) ?? 0;
  return {
    read: value => {
      if (!isHistogram(value)) return 'wrong_value';
      const counts = new Float64Array(bounds.length + 1);
      for (const { max, count } of value) {
        const index = max === undefined || max > highest ? bounds.length : indexOf.get(max);
        if (index === undefined) return 'wrong_value';
        counts[index] = (counts[index] ?? 0) + count;
      }
      return counts;
    },
    tell: counters => ({
      kind: 'explicit',
      count: counters.reduce((sum, count) => sum + count, 0),
      // bpftrace does not tell it.
      sum: Number.NaN,
      bounds: scaled,
      counts: Array.from(counters),
    }),
  };
}

function isHistogram(value: MapValue): value is Extract<MapValue, readonly unknown[]> {
  return Array.isArray(value);
}
