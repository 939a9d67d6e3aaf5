import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import type { HistogramResolution } from '../../src/otlp/histogram-resolution.ts';
import { createResourceWriter } from '../../src/otlp/resource-writer.ts';
import type { Sample, Telling } from '../../src/otlp/sample.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';
import { writeMetrics } from '../../src/otlp/write-metrics.ts';

const resource = { 'service.instance.id': 'host/a', 'host.id': 'host' };
const tellingOf = (
  preference: string | undefined,
  resolution: Telling['resolution'] = () => 'explicit',
): Telling => ({ scope: 'scope', resource, temporal: temporalityFrom(preference), resolution });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Series that may be told, of every kind; what is told of one changes from export to export. */
const series: readonly Omit<Sample, 'start' | 'value'>[] = [
  { metric: 'container.cpu.time' },
  { metric: 'sculptor.cpu.time', attributes: { 'cpu.mode': 'user' } },
  { metric: 'sculptor.cpu.time', attributes: { 'cpu.mode': 'kernel' } },
  { metric: 'container.memory.usage', attributes: {} },
  { metric: 'sculptor.task.cpu.time', attributes: { 'thread.name': 'a' }, task: '7@100' },
];
const histogram = fc.record({
  kind: fc.constant('exponential' as const),
  count: fc.maxSafeNat(),
  sum: fc.double({ noNaN: true }),
  scale: fc.constant(2),
  zeroCount: fc.constant(0),
  offset: fc.integer({ min: -120, max: 30 }),
  counts: fc.array(fc.nat({ max: 2 ** 40 }), { maxLength: 30 }),
});
const foreign = fc.record({
  kind: fc.constant('explicit' as const),
  count: fc.maxSafeNat(),
  sum: fc.double(),
  bounds: fc.constantFrom<readonly number[]>([1, 2], [1, 2, 3]),
  counts: fc.array(fc.nat(), { minLength: 3, maxLength: 4 }),
});
const latency = 'sculptor.runqueue.latency';
const foreignMetric = { name: 'my.own', unit: 's', type: 'histogram', description: '' } as const;
const start = fc.constantFrom(1, 1_700_000_000.25, 1_700_000_001.123_456_7);
const told: fc.Arbitrary<Sample[]> = fc
  .tuple(
    fc.subarray([...series], { minLength: 3 }),
    fc.array(fc.tuple(start, fc.double()), { minLength: 5, maxLength: 5 }),
    fc.tuple(start, fc.oneof(histogram, foreign)),
    fc.boolean(),
  )
  .map(([which, values, [began, value], isCopied]) => [
    ...which.map(({ attributes, ...one }, i): Sample => {
      const [since, number] = values[i] ?? [1, 0];
      const own = isCopied && attributes ? { ...attributes } : attributes;
      return { ...one, ...(own ? { attributes: own } : {}), start: since, value: number };
    }),
    { metric: value.kind === 'explicit' ? foreignMetric : latency, start: began, value },
  ]);

test('what is written over the last export is what would be written anew', t => {
  const resolutions = fc.constantFrom<HistogramResolution>(
    'explicit',
    'explicit-fine',
    'exponential',
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(told, fc.double({ min: 1, max: 2 ** 33, noNaN: true }), resolutions), {
        minLength: 2,
        maxLength: 6,
      }),
      exports => {
        let now: HistogramResolution = 'explicit';
        const telling = tellingOf(undefined, () => now);
        const write = createResourceWriter(telling);
        for (const [samples, time, resolution] of exports) {
          now = resolution;
          assert.equal(hex(write(samples, time)), hex(writeMetrics(telling, samples, time)));
        }
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});

test('what alone changes is written, be it to what it was before', t => {
  const attributes = { 'thread.name': 'a' };
  const part = (mode: string): Sample => ({
    metric: 'sculptor.cpu.time',
    attributes,
    more: { 'cpu.mode': mode },
    start: 1,
    value: 2,
  });
  const cpu = (since: number): Sample => ({ metric: 'container.cpu.time', start: since, value: 2 });
  const latencies = (sum: number): Sample => ({
    metric: foreignMetric,
    start: 1,
    value: { kind: 'explicit', count: 3, sum, bounds, counts: [1, 2] },
  });
  const bounds = [1];
  const sequences: Readonly<Record<string, Sample[][]>> = {
    start: [[cpu(1)], [cpu(2)], [cpu(1)]],
    metric: [[cpu(1)], [{ ...cpu(1), metric: 'sculptor.runqueue.wait' }], [cpu(1)]],
    'one more': [[cpu(1)], [cpu(1), part('user')], [cpu(1)]],
    more: [
      [part('user'), part('kernel')],
      [part('kernel'), part('user')],
    ],
    'a sum that is not known': [[latencies(5)], [latencies(Number.NaN)], [latencies(5)]],
  };
  for (const [what, sequence] of Object.entries(sequences)) {
    const telling = tellingOf(undefined);
    const write = createResourceWriter(telling);
    for (const [nth, samples] of sequence.entries())
      t.is(
        hex(write(samples, 10 + nth)),
        hex(writeMetrics(telling, samples, 10 + nth)),
        `${what}: ${nth}`,
      );
  }
});

test('while the series are the same ones, the bytes are the very same ones, written over', t => {
  const write = createResourceWriter(tellingOf(undefined));
  const samples = (value: number): Sample[] =>
    series.slice(0, 3).map(one => ({ ...one, start: 1, value }));
  const first = write(samples(1), 10);
  t.is(write(samples(2), 11), first);
  t.not(write(samples(2).slice(1), 12), first);
});

test('delta: values and starts are written over too', t => {
  const [one, other] = [tellingOf('delta'), tellingOf('delta')];
  const write = createResourceWriter(one);
  const exponential = { kind: 'exponential', scale: 2, zeroCount: 0, offset: -40 } as const;
  const all = new Set<Uint8Array>();
  for (let n = 1; n < 5; n += 1) {
    const value = { ...exponential, count: 3 * n, sum: n / 8, counts: [n, n, n] };
    const samples: Sample[] = [
      { metric: 'container.cpu.time', start: 1, value: n * n },
      { metric: latency, start: 1, value },
    ];
    const wanted = writeMetrics(other, samples, 10 * n);
    const bytes = write(samples, 10 * n);
    t.is(hex(bytes), hex(wanted));
    all.add(bytes);
    for (const { temporal } of [one, other]) temporal.deliver(temporal.take());
  }
  t.is(all.size, 1);
});
