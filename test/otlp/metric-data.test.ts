import test from 'ava';
import { type CustomMetric, resourceMetrics, type Sample } from '../../src/otlp/metric-data.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';

const custom: CustomMetric = {
  name: 'my.metric',
  unit: 's',
  type: 'counter',
  description: 'Mine.',
};
const resource = { 'service.instance.id': 'host' };

test('a metric of a user’s own is told by its own name, unit and type; a sum that is not known is left out', t => {
  const histogram = {
    kind: 'explicit',
    count: 1,
    sum: Number.NaN,
    bounds: [1],
    counts: [1, 0],
  } as const;
  const samples: Sample[] = [
    { metric: custom, start: 1, value: 2 },
    { metric: { ...custom, name: 'my.histogram', type: 'histogram' }, start: 1, value: histogram },
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
