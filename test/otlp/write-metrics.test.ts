import assert from 'node:assert/strict';
import { ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import test from 'ava';
import fc from 'fast-check';
import { resourceMetrics, type Sample } from '../../src/otlp/metric-data.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';
import { writeMetrics } from '../../src/otlp/write-metrics.ts';

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

const attributes = fc.dictionary(
  // That name is lost by the SDK's own copies.
  fc.string({ maxLength: 12, unit: 'grapheme' }).filter(key => key !== '__proto__'),
  fc.oneof(
    fc.string({ maxLength: 200, unit: 'grapheme' }),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.double(),
  ),
  { maxKeys: 4 },
);
/** Frozen ones are written once. */
const maybeFrozen = fc
  .tuple(attributes, fc.boolean())
  .map(([some, isFrozen]) => (isFrozen ? Object.freeze(some) : some));
const count = fc.maxSafeNat();
const counts = fc.array(count, { maxLength: 200 });
const value = fc.oneof(
  fc.double(),
  fc.record({
    kind: fc.constant('explicit' as const),
    count,
    sum: fc.double(),
    bounds: fc.array(fc.double(), { maxLength: 30 }),
    counts,
  }),
  fc.record({
    kind: fc.constant('exponential' as const),
    count,
    sum: fc.double({ noNaN: true }),
    scale: fc.integer({ min: -10, max: 20 }),
    zeroCount: count,
    offset: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    counts,
  }),
);
const text = fc.string({ maxLength: 40, unit: 'grapheme' });
const sample: fc.Arbitrary<Sample> = fc
  .record({
    value,
    attributes: maybeFrozen,
    name: fc.constantFrom('one', 'another', 'größer'),
    start: fc.double({ min: 0, max: 2 ** 33, noNaN: true }),
    isGauge: fc.boolean(),
    description: text,
    unit: text,
  })
  .map(({ value: told, attributes: by, start, name, isGauge, description, unit }) => {
    const kind = typeof told === 'number' ? (isGauge ? 'gauge' : 'counter') : 'histogram';
    const shape = typeof told === 'number' ? kind : told.kind;
    return {
      metric: { name: `${name}.${shape}`, unit, type: kind, description } as const,
      attributes: by,
      start,
      value: told,
    };
  });

test('whatever is told is written in the same bytes as by the SDK, also when it was written before', t => {
  fc.assert(
    fc.property(
      fc.array(sample, { maxLength: 8 }),
      attributes,
      fc.constantFrom('delta', 'cumulative'),
      fc.double({ min: 0, max: 2 ** 33, noNaN: true }),
      (samples, of, preference, now) => {
        const told = resourceMetrics(
          'scope',
          resourceFromAttributes(of),
          samples,
          now,
          temporalityFrom(preference),
          'exponential',
        );
        const wanted = ProtobufMetricsSerializer.serializeRequest(told);
        for (let time = 0; time < 2; time += 1) assert.equal(hex(writeMetrics(told)), hex(wanted));
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});

test('much is written whole: the buffer grows', t => {
  const samples = Array.from({ length: 3000 }, (_, i): Sample => {
    const attributes = { name: `series ${i} of many`, i };
    return { metric: 'sculptor.cpu.time', attributes, start: 1, value: i };
  });
  const resource = resourceFromAttributes({ 'service.instance.id': 'host' });
  const told = resourceMetrics('scope', resource, samples, 3, temporalityFrom(undefined));
  const wanted = ProtobufMetricsSerializer.serializeRequest(told);
  t.true((wanted?.byteLength ?? 0) > 200_000);
  t.true(hex(writeMetrics(told)) === hex(wanted));
});

test('an attribute that cannot be written is named, and nothing of it is in what is written next', t => {
  const tell = (attributes: Record<string, string>) =>
    resourceMetrics(
      'scope',
      resourceFromAttributes({ 'service.instance.id': 'host' }),
      [{ metric: 'sculptor.cpu.time', attributes, start: 1, value: 2 }],
      3,
      temporalityFrom(undefined),
    );
  const before = writeMetrics(tell({ mode: 'user' }));
  const wrong = { mode: () => 'user' } as unknown as Record<string, string>;
  t.throws(() => writeMetrics(tell(wrong)), { instanceOf: TypeError, message: /attribute mode/ });
  t.deepEqual(writeMetrics(tell({ mode: 'user' })), before);
});
