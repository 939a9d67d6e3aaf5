import { resourceFromAttributes } from '@opentelemetry/resources';
import test from 'ava';
import type { ExponentialHistogram } from '../../src/contract/telemetry.ts';
import { type CustomMetric, resourceMetrics, type Sample } from '../../src/otlp/metric-data.ts';
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
    const { scopeMetrics } = resourceMetrics('s', resource, [sample], 2, temporal, resolution);
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

const custom: CustomMetric = {
  name: 'my.metric',
  unit: 's',
  type: 'counter',
  description: 'Mine.',
};
const resource = resourceFromAttributes({ 'service.instance.id': 'host' });

test('a metric of a user’s own is told by its own name, unit and type; a sum that is not known is left out', t => {
  const value = {
    kind: 'explicit',
    count: 1,
    sum: Number.NaN,
    bounds: [1],
    counts: [1, 0],
  } as const;
  const samples: Sample[] = [
    { metric: custom, start: 1, value: 2 },
    { metric: { ...custom, name: 'my.histogram', type: 'histogram' }, start: 1, value },
  ];
  const told = resourceMetrics('scope', resource, samples, 3, temporalityFrom(undefined));
  const [counter, other] = told.scopeMetrics[0]?.metrics ?? [];
  t.like(counter, { descriptor: { name: 'my.metric', unit: 's' }, isMonotonic: true });
  t.like(other, { descriptor: { name: 'my.histogram' } });
  t.like(other?.dataPoints[0]?.value, { count: 1, sum: undefined });
});

test('delta: values with blanks do not make two series one, nor does a value that looks like a task end one', t => {
  const temporal = temporalityFrom('delta');
  const tell = (values: readonly number[]): unknown[] => {
    const samples = values.map((value, i) => ({
      metric: custom,
      attributes: [{ a: 'x y', b: 'z' }, { a: 'x', b: 'y z' }, { a: '5@6' }][i] ?? {},
      start: 1,
      value,
    }));
    const told = resourceMetrics('scope', resource, samples, 3, temporal);
    temporal.settle(true);
    temporal.keepTasks(() => false);
    return (told.scopeMetrics[0]?.metrics[0]?.dataPoints ?? []).map(point => point.value);
  };
  t.deepEqual(tell([10, 100, 1000]), [10, 100, 1000]);
  t.deepEqual(tell([11, 102, 1003]), [1, 2, 3]);
});
