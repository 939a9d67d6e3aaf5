import test from 'ava';
import fc from 'fast-check';
import type { Bucket, MapValue } from '../../../src/agent/bpftrace/output.ts';
import { createKeyReader } from '../../../src/agent/custom/keys.ts';
import { bucketsOf } from '../../../src/agent/custom/program.ts';
import { createReadings } from '../../../src/agent/custom/readings.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { ExplicitHistogram } from '../../../src/contract/telemetry.ts';

type Options = {
  type?: 'counter' | 'gauge' | 'histogram';
  labels?: string[];
  scale?: number;
  maxSeries?: number;
  script?: string;
};

function readings(options: Options = {}) {
  const { type = 'counter', labels = [], scale = 1, maxSeries = 100, script = '' } = options;
  const name = 'my.metric';
  const buckets = bucketsOf(script, '');
  if (buckets === null) throw new Error('no buckets');
  return createReadings({
    header: { name, unit: '1', type, labels, map: '', scale, headline: false, line: 1 },
    buckets,
    metric: { name, unit: '1', type, description: '' },
    start: 1000,
    maxSeries,
  });
}

function instance(id: number, start = 500): LivingInstance {
  return {
    instance: { id: `/${id}`, kind: 'cgroup', name: `${id}` },
    path: `/${id}`,
    members: new Map([[id, `/${id}`]]),
    start,
    totals: { runNs: 0, waitNs: 0, throttledNs: 0 },
    window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
  };
}

const valuesOf = (series: ReturnType<ReturnType<typeof readings>['host']>) =>
  series.map(({ attributes, value }) => [...Object.values(attributes ?? {}), value]);

test('a counter goes on where it was when the script is begun again', t => {
  const one = readings({ labels: ['comm'], scale: 0.5 });
  one.take([['a', 4]]);
  one.take([['a', 6]]);
  one.end();
  one.begin();
  one.take([['a', 2]]);
  t.deepEqual(valuesOf(one.host()), [['a', 4]]);
  t.is(one.host()[0]?.start, 1000);
});

test('a counter whose map the script clears never falls', t => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 100 })), prints => {
      const one = readings();
      let told = 0;
      for (const print of prints) {
        one.take([[null, print]]);
        const value = Number(one.host()[0]?.value);
        t.true(value >= told);
        told = value;
      }
    }),
  );
  t.pass();
});

test('a key that is a cgroup makes the value its instance’s, from when that is known on', t => {
  const one = readings({ labels: ['comm', 'cgroup'] });
  const known = instance(7, 2000);
  one.take([
    ['a,7', 1],
    ['a,8', 5],
  ]);
  t.deepEqual(one.samples(known), []);
  one.follow([known]);
  t.deepEqual(valuesOf(one.samples(known)), [['a', 1]]);
  t.is(one.samples(known)[0]?.start, 2000);
  one.take([
    ['a,7', 3],
    ['a,8', 5],
  ]);
  t.deepEqual(valuesOf(one.samples(known)), [['a', 3]]);
  t.deepEqual(one.host(), []);
  t.is(one.lost().unnamed_cgroup, 0);
  one.end();
  t.is(one.lost().unnamed_cgroup, 1);
});

test('an instance that has ended was told in full, unless its cgroup counted on: only that is lost', t => {
  const one = readings({ labels: ['cgroup'] });
  one.follow([instance(7), instance(8)]);
  one.take([
    ['7', 3],
    ['8', 3],
  ]);
  one.follow([]);
  one.take([
    ['7', 3],
    ['8', 4],
  ]);
  one.end();
  t.is(one.lost().unnamed_cgroup, 1);
});

test('an instance of several cgroups is told their sum', t => {
  const one = readings({ labels: ['cgroup'] });
  const vm = instance(7);
  vm.members.set(8, '/7/8');
  one.follow([vm]);
  one.take([
    ['7', 1],
    ['8', 2],
  ]);
  one.take([
    ['7', 1],
    ['8', 4],
  ]);
  t.deepEqual(valuesOf(one.samples(vm)), [[5]]);
});

test('a histogram has the bounds of bpftrace, those that hold nothing as well, and no sum', t => {
  const one = readings({ type: 'histogram', scale: 2, script: '@ = lhist(1, 0, 30, 10);' });
  const buckets: Bucket[] = [
    { min: 10, max: 19, count: 3 },
    { min: 20, max: 29, count: 0 },
    { min: 30, count: 4 },
  ];
  one.take([[null, buckets]]);
  const value = one.host()[0]?.value as ExplicitHistogram;
  t.deepEqual(value.bounds, [-2, 18, 38, 58]);
  t.deepEqual(value.counts, [0, 0, 3, 0, 4]);
  t.is(value.count, 7);
  t.is(value.sum, Number.NaN);
});

test('what lies above the highest bound of hist() is in the last bucket, what is below zero in the first', t => {
  const one = readings({ type: 'histogram' });
  const buckets: Bucket[] = [
    { max: -1, count: 1 },
    { min: 0, max: 0, count: 2 },
    { min: 4, max: 7, count: 3 },
    { min: 2 ** 50, max: 2 ** 51 - 1, count: 4 },
  ];
  one.take([[null, buckets]]);
  const value: unknown = one.host()[0]?.value;
  const { counts, bounds } = value as ExplicitHistogram;
  t.is(counts[0], 1);
  t.is(counts[1], 2);
  t.is(counts[bounds.indexOf(7)], 3);
  t.is(counts.at(-1), 4);
});

test('a gauge is what was printed last; a key that is gone is told no more, nor is it after the script has ended', t => {
  const one = readings({ type: 'gauge', labels: ['comm'] });
  one.take([
    ['a', 3],
    ['b', -1],
  ]);
  one.take([['a', 2]]);
  t.deepEqual(valuesOf(one.host()), [['a', 2]]);
  one.end();
  t.deepEqual(one.host(), []);
});

const refused: [
  title: string,
  options: Options,
  key: string | null,
  value: MapValue,
  reason: string,
][] = [
  ['a comma within one of two texts', { labels: ['a', 'b'] }, 'x,y,z', 1, 'ambiguous_key'],
  ['keys where no label is', {}, 'x', 1, 'ambiguous_key'],
  ['fewer parts than labels', { labels: ['a', 'b'] }, 'x', 1, 'missing_key'],
  ['no key', { labels: ['a'] }, null, 1, 'missing_key'],
  ['a key of a megabyte', { labels: ['a'] }, 'x'.repeat(1_000_000), 1, 'key_too_long'],
  ['a counter below zero', {}, null, -1, 'negative'],
  ['a histogram for a counter', {}, null, [{ min: 0, max: 0, count: 1 }], 'wrong_value'],
  ['a number for a histogram', { type: 'histogram' }, null, 1, 'wrong_value'],
  [
    'a bucket that the script has not',
    { type: 'histogram' },
    null,
    [{ min: 0, max: 5, count: 1 }],
    'wrong_value',
  ],
  ['text', { type: 'gauge' }, null, null, 'wrong_value'],
];
for (const [title, options, key, value, reason] of refused)
  test(`counted once, and not told: ${title}`, t => {
    const one = readings(options);
    one.take([[key, value]]);
    one.take([[key, value]]);
    t.deepEqual(one.host(), []);
    t.deepEqual(
      Object.entries(one.lost()).filter(([, n]) => n > 0),
      [[reason, 1]],
    );
  });

test('series past their largest number are counted, those that are there go on', t => {
  const one = readings({ labels: ['comm'], maxSeries: 2 });
  one.take(['a', 'b', 'c', 'd'].map(key => [key, 1]));
  one.take(['a', 'b', 'c', 'd'].map(key => [key, 2]));
  t.deepEqual(valuesOf(one.host()), [
    ['a', 2],
    ['b', 2],
  ]);
  t.is(one.lost().series_full, 2);
});

test('the parts of a key come back, unless a comma makes them ambiguous: then it is refused, never mislabelled', t => {
  const part = fc.string({ unit: 'grapheme', maxLength: 6 });
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), parts => {
      const labels = parts.map((_, i) => `l${i}`);
      const read = createKeyReader(labels)(parts.join(','));
      if (parts.length > 1 && parts.some(one => one.includes(','))) return read === 'ambiguous_key';
      return (
        typeof read !== 'string' && labels.every((label, i) => read.attributes[label] === parts[i])
      );
    }),
  );
  t.pass();
});

test('one text beside a cgroup may hold commas, quotes and newlines', t => {
  const read = createKeyReader(['cgroup', 'comm']);
  t.deepEqual(read('12,a,"b"\n:c'), { attributes: { comm: 'a,"b"\n:c' }, cgroupId: 12 });
  t.deepEqual(read('0,a'), { attributes: { comm: 'a' }, cgroupId: 1 });
});
