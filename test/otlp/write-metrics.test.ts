import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import type { PointAttributes, Sample, Telling } from '../../src/otlp/sample.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';
import { writeMetrics } from '../../src/otlp/write-metrics.ts';
import { writtenBySdk } from './sdk-metrics.ts';

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

const tellingOf = (
  resource: PointAttributes,
  preference?: string,
  resolution: ReturnType<Telling['resolution']> = 'explicit',
): Telling => ({
  ...{ scope: 'scope', resource },
  temporal: temporalityFrom(preference),
  resolution: () => resolution,
});

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
    attributes: fc.option(maybeFrozen, { nil: undefined }),
    // The SDK's own copies have a name once.
    more: fc.option(fc.constantFrom(Object.freeze({ '\0a': 1, '\0b': 'x' })), { nil: undefined }),
    name: fc.constantFrom('one', 'another', 'größer'),
    start: fc.double({ min: 0, max: 2 ** 33, noNaN: true }),
    isGauge: fc.boolean(),
    description: text,
    unit: text,
  })
  .map(({ value: told, attributes: by, more, start, name, isGauge, description, unit }) => {
    const kind = typeof told === 'number' ? (isGauge ? 'gauge' : 'counter') : 'histogram';
    const shape = typeof told === 'number' ? kind : told.kind;
    return {
      metric: { name: `${name}.${shape}`, unit, type: kind, description } as const,
      ...(by && { attributes: by }),
      ...(more && { more }),
      start,
      value: told,
    };
  });

test('whatever is told is written in the same bytes as by the SDK, also when it was written before', t => {
  fc.assert(
    fc.property(
      fc.array(sample, { maxLength: 8 }),
      // The SDK drops what has no name from a resource.
      attributes.filter(of => !('' in of)),
      fc.constantFrom('delta', 'cumulative'),
      fc.double({ min: 0, max: 2 ** 33, noNaN: true }),
      (samples, resource, preference, now) => {
        const telling = tellingOf(resource, preference, 'exponential');
        const wanted = hex(writtenBySdk(telling, samples, now));
        for (let time = 0; time < 2; time += 1)
          assert.equal(hex(writeMetrics(telling, samples, now)), wanted);
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});

test('a histogram is written in the resolution that is wanted, and attributes as they are now', t => {
  const telling = tellingOf({ 'service.instance.id': 'host' });
  const latency = { kind: 'exponential', count: 3, sum: 0.5, scale: 2, zeroCount: 0 } as const;
  const attributes: Record<string, string> = { mode: 'user' };
  const samples: Sample[] = [
    { metric: 'sculptor.cpu.time', attributes, start: 1, value: 2 },
    {
      ...{ metric: 'sculptor.disk.latency', start: 1 },
      value: { ...latency, offset: -8, counts: [1, 2] },
    },
  ];
  for (const mode of ['user', 'system']) {
    attributes['mode'] = mode;
    t.is(hex(writeMetrics(telling, samples, 3)), hex(writtenBySdk(telling, samples, 3)), mode);
  }
});

test('much is written whole: the buffer grows', t => {
  const samples = Array.from({ length: 3000 }, (_, i): Sample => {
    const attributes = { name: `series ${i} of many`, i };
    return { metric: 'sculptor.cpu.time', attributes, start: 1, value: i };
  });
  const telling = tellingOf({ 'service.instance.id': 'host' });
  const wanted = writtenBySdk(telling, samples, 3);
  t.true((wanted?.byteLength ?? 0) > 200_000);
  t.true(hex(writeMetrics(telling, samples, 3)) === hex(wanted));
});

test('an attribute that cannot be written is named, and nothing of it is in what is written next', t => {
  const telling = tellingOf({ 'service.instance.id': 'host' });
  const written = (by: PointAttributes) =>
    writeMetrics(telling, [{ metric: 'sculptor.cpu.time', attributes: by, start: 1, value: 2 }], 3);
  const before = written({ mode: 'user' });
  const wrong = { mode: () => 'user' } as unknown as PointAttributes;
  t.throws(() => written(wrong), { instanceOf: TypeError, message: /attribute mode/ });
  t.deepEqual(written({ mode: 'user' }), before);
});
