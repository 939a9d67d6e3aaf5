import test from 'ava';
import type { ExplicitHistogram, ExponentialHistogram } from '../../src/contract/telemetry.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import type { CustomMetric, Sample, Telling } from '../../src/otlp/sample.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';
import { writeMetrics } from '../../src/otlp/write-metrics.ts';

/** What a receiver reads. */
const told = (samples: readonly Sample[], telling: Partial<Telling> = {}) => {
  const temporal = telling.temporal ?? temporalityFrom(undefined);
  const resource = { 'service.instance.id': 'host' };
  const written = writeMetrics(
    { scope: 'scope', resource, resolution: () => 'explicit', ...telling, temporal },
    ...([samples, 3] as const),
  );
  temporal.deliver(temporal.take());
  return decodeMetrics(written)[0]?.points ?? [];
};

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

test('deltas add up to what was counted, whatever resolution each is told in', t => {
  const temporal = temporalityFrom('delta');
  const tell = (counts: number[], resolution: 'explicit' | 'explicit-fine') => {
    const metric = 'sculptor.runqueue.latency';
    const sample = { metric, start: 1, value: histogram(counts) } as const;
    const [point] = told([sample], { temporal, resolution: () => resolution });
    t.is(point?.temporality, 'delta');
    const { count, bounds, counts: by } = (point as { value: ExplicitHistogram }).value;
    const upTo = (bound: number) =>
      by.reduce((sum, n, i) => ((bounds[i] ?? Infinity) <= bound ? sum + n : sum), 0);
    return { count, below: upTo(2 ** -9), bounds: bounds.length };
  };
  t.deepEqual(tell([1, 2, 3, 4, 5], 'explicit'), { count: 15, below: 10, bounds: 25 });
  t.deepEqual(tell([2, 2, 3, 6, 9], 'explicit-fine'), { count: 7, below: 3, bounds: 97 });
  t.deepEqual(tell([2, 3, 3, 6, 9], 'explicit'), { count: 1, below: 1, bounds: 25 });
});

const custom: CustomMetric = {
  name: 'my.metric',
  unit: 's',
  type: 'counter',
  description: 'Mine.',
};

test('a metric of a user’s own is told by its own name, unit and type; a sum that is not known is left out', t => {
  const value = {
    kind: 'explicit',
    count: 1,
    sum: Number.NaN,
    bounds: [1],
    counts: [1, 0],
  } as const;
  const [counter, other] = told([
    { metric: custom, start: 1, value: 2 },
    { metric: { ...custom, name: 'my.histogram', type: 'histogram' }, start: 1, value },
  ]);
  t.like(counter, { metric: 'my.metric', unit: 's', type: 'sum', monotonic: true, value: 2 });
  t.like(other, { metric: 'my.histogram', type: 'histogram', value: { count: 1, sum: NaN } });
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
    const points = told(samples, { temporal });
    temporal.keepTasks(() => false, 1e9);
    return points.map(point => point.value);
  };
  t.deepEqual(tell([10, 100, 1000]), [10, 100, 1000]);
  t.deepEqual(tell([11, 102, 1003]), [1, 2, 3]);
});

test('delta: series of one task are told apart by what they share with those of others, and end with it', t => {
  const temporal = temporalityFrom('delta');
  const tell = (values: readonly number[]) =>
    told(
      values.map((value, i) => ({
        metric: custom,
        attributes: { name: `as it is called at ${value}` },
        ...(i > 0 && { more: Object.freeze({ reason: ['', 'io', 'lock'][i] ?? '' }) }),
        ...{ task: '5@6', start: 1, value },
      })),
      { temporal },
    );
  t.deepEqual(
    tell([10, 100, 1000]).map(({ attributes }) => Object.values(attributes)),
    [
      ['as it is called at 10'],
      ['as it is called at 100', 'io'],
      ['as it is called at 1000', 'lock'],
    ],
  );
  t.deepEqual(
    tell([11, 102, 1003]).map(({ value }) => value),
    [1, 2, 3],
  );
  temporal.keepTasks(() => false, 1e9);
  t.deepEqual(
    tell([12, 103, 1004]).map(({ value }) => value),
    [12, 103, 1004],
  );
});

test('delta: a task that is moved to another instance goes on, and is not told whole again', t => {
  const temporal = temporalityFrom('delta');
  const tell = (instance: string, value: number) => {
    const resource = { 'service.instance.id': instance };
    const sample = { metric: custom, attributes: {}, task: '5@6', start: 1, value };
    return told([sample], { temporal, resource })[0]?.value;
  };
  t.is(tell('host/a', 10), 10);
  t.is(tell('host/b', 20), 10);
  temporal.forget('host/a\n');
  t.is(tell('host/b', 30), 10);
});
