import test from 'ava';
import type { ExponentialHistogram } from '../../src/contract/telemetry.ts';
import { resourceMetrics } from '../../src/otlp/metric-data.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';

/** `counts`: of exact buckets from 2^-10 s on, four an octave. */
const histogram = (counts: number[]): ExponentialHistogram => ({
  kind: 'exponential',
  count: counts.reduce((a, b) => a + b, 0),
  sum: 1,
  scale: 2,
  zeroCount: 0,
  offset: -40,
  counts,
});

test('deltas add up to what was counted, whatever resolution each is told in', async t => {
  const temporal = temporalityFrom('delta');
  const told = (counts: number[], resolution: 'explicit' | 'explicit-fine') => {
    const metric = 'sculptor.runqueue.latency';
    const sample = { metric, start: 1, value: histogram(counts) } as const;
    const { scopeMetrics } = resourceMetrics('s', {}, [sample], 2, temporal, resolution);
    temporal.settle(true);
    const value = scopeMetrics[0]?.metrics[0]?.dataPoints[0]?.value as unknown as {
      count: number;
      buckets: { boundaries: number[]; counts: number[] };
    };
    const upTo = (bound: number) =>
      value.buckets.counts.reduce(
        (sum, n, i) => ((value.buckets.boundaries[i] ?? Infinity) <= bound ? sum + n : sum),
        0,
      );
    return { count: value.count, below: upTo(2 ** -9), bounds: value.buckets.boundaries.length };
  };
  t.deepEqual(told([1, 2, 3, 4, 5], 'explicit'), { count: 15, below: 10, bounds: 25 });
  t.deepEqual(told([2, 2, 3, 6, 9], 'explicit-fine'), { count: 7, below: 3, bounds: 97 });
  t.deepEqual(told([2, 3, 3, 6, 9], 'explicit'), { count: 1, below: 1, bounds: 25 });
});
