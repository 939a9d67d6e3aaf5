import { ValueType } from '@opentelemetry/api';
import { AggregationTemporality, DataPointType, type MetricData } from '@opentelemetry/sdk-metrics';
import test from 'ava';
import fc from 'fast-check';
import { ProtocolError } from '../../src/contract/errors.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import type { Skipped } from '../../src/otlp/decode-points.ts';
import { bytesField, stringField, varintField } from '../../src/otlp/protobuf-writer.ts';
import { counter, resourceMetrics, serialize } from './support.ts';

const finite = fc.double({ noNaN: true, noDefaultInfinity: true });
const attributes = fc.dictionary(
  // The SDK's own copies lose this name; that we keep it, a test below says.
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter(key => key !== '__proto__'),
  fc.oneof(fc.string(), fc.boolean(), fc.maxSafeInteger(), fc.double({ noNaN: true })),
  { maxKeys: 4, noNullPrototype: true },
);
const time = fc
  .tuple(fc.integer({ min: 1, max: 4_000_000_000 }), fc.integer({ min: 0, max: 999_999_999 }))
  .map(([s, ns]): [number, number] => [s, ns]);
const temporality = fc.constantFrom(
  AggregationTemporality.CUMULATIVE,
  AggregationTemporality.DELTA,
);
const descriptor = (valueType: ValueType) =>
  fc.record({
    name: fc.string({ minLength: 1, maxLength: 20 }),
    unit: fc.constantFrom('s', 'By', ''),
    description: fc.string({ maxLength: 5 }),
    valueType: fc.constant(valueType),
  });
const pointOf = <T>(value: fc.Arbitrary<T>) =>
  fc.record({ startTime: time, endTime: time, attributes, value });
const listOf = <T>(value: fc.Arbitrary<T>) => fc.array(pointOf(value), { maxLength: 3 });
const count = fc.integer({ min: 0, max: 2 ** 40 });

const number = (valueType: ValueType, value: fc.Arbitrary<number>) => [
  fc.record({
    descriptor: descriptor(valueType),
    aggregationTemporality: temporality,
    dataPointType: fc.constant(DataPointType.SUM as const),
    isMonotonic: fc.boolean(),
    dataPoints: listOf(value),
  }),
  fc.record({
    descriptor: descriptor(valueType),
    aggregationTemporality: fc.constant(AggregationTemporality.CUMULATIVE),
    dataPointType: fc.constant(DataPointType.GAUGE as const),
    dataPoints: listOf(value),
  }),
];
const explicit = fc.record({
  descriptor: descriptor(ValueType.DOUBLE),
  aggregationTemporality: temporality,
  dataPointType: fc.constant(DataPointType.HISTOGRAM as const),
  dataPoints: listOf(
    fc.array(finite, { maxLength: 6 }).chain(boundaries =>
      fc.record({
        buckets: fc.record({
          boundaries: fc.constant(boundaries),
          counts: fc.array(count, {
            minLength: boundaries.length + 1,
            maxLength: boundaries.length + 1,
          }),
        }),
        sum: finite,
        count,
      }),
    ),
  ),
});
const exponential = fc.record({
  descriptor: descriptor(ValueType.DOUBLE),
  aggregationTemporality: temporality,
  dataPointType: fc.constant(DataPointType.EXPONENTIAL_HISTOGRAM as const),
  dataPoints: listOf(
    fc.record({
      count,
      sum: finite,
      scale: fc.integer({ min: -10, max: 20 }),
      zeroCount: count,
      positive: fc.record({
        offset: fc.integer({ min: -1000, max: 1000 }),
        bucketCounts: fc.array(count, { maxLength: 8 }),
      }),
      negative: fc.constant({ offset: 0, bucketCounts: [] as number[] }),
    }),
  ),
});
const metric: fc.Arbitrary<MetricData> = fc.oneof(
  ...number(ValueType.DOUBLE, finite),
  ...number(ValueType.INT, fc.maxSafeInteger()),
  explicit,
  exponential,
) as fc.Arbitrary<MetricData>;

/** What the decoder must make of what the SDK was given. */
function expected(data: MetricData) {
  return data.dataPoints.map(point => ({
    metric: data.descriptor.name,
    unit: data.descriptor.unit,
    type:
      data.dataPointType === DataPointType.SUM
        ? 'sum'
        : data.dataPointType === DataPointType.GAUGE
          ? 'gauge'
          : 'histogram',
    monotonic: data.dataPointType === DataPointType.SUM && data.isMonotonic,
    temporality:
      data.aggregationTemporality === AggregationTemporality.DELTA ? 'delta' : 'cumulative',
    attributes: zeroes(point.attributes),
    start: seconds(point.startTime as [number, number]),
    time: seconds(point.endTime as [number, number]),
    value: zeroes(sampleValue(data, point.value)),
  }));
}

function sampleValue(data: MetricData, value: unknown): unknown {
  if (data.dataPointType === DataPointType.HISTOGRAM) {
    const {
      buckets,
      sum,
      count: n,
    } = value as {
      buckets: { boundaries: number[]; counts: number[] };
      sum: number;
      count: number;
    };
    return { kind: 'explicit', count: n, sum, bounds: buckets.boundaries, counts: buckets.counts };
  }
  if (data.dataPointType === DataPointType.EXPONENTIAL_HISTOGRAM) {
    const histogram = value as {
      count: number;
      sum: number;
      scale: number;
      zeroCount: number;
      positive: { offset: number; bucketCounts: number[] };
    };
    const { count: n, sum, scale, zeroCount, positive } = histogram;
    const { offset, bucketCounts } = positive;
    return { kind: 'exponential', count: n, sum, scale, zeroCount, offset, counts: bucketCounts };
  }
  return value;
}

/** Integers have no −0. */
function zeroes<T>(value: T): T {
  return JSON.parse(
    JSON.stringify(value, (_k, v) => (v === Infinity ? '∞' : v === -Infinity ? '−∞' : v)),
  );
}

function seconds([s, ns]: [number, number]): number {
  return Number(BigInt(s) * 1_000_000_000n + BigInt(ns)) / 1e9;
}

test('what the SDK encodes is decoded to the same points', t => {
  fc.assert(
    fc.property(fc.array(metric, { maxLength: 4 }), attributes, (metrics, resource) => {
      const strings = Object.fromEntries(Object.entries(resource).map(([k, v]) => [k, String(v)]));
      const decoded = decodeMetrics(serialize(resourceMetrics(strings, metrics)));
      const points = metrics.flatMap(expected);
      t.deepEqual(
        zeroes(decoded.map(({ points: p }) => p)) as unknown,
        points.length === 0 ? [] : [points],
      );
      if (points.length > 0) t.deepEqual(decoded[0]?.resource, strings);
    }),
    { numRuns: 300 },
  );
});

test('of some metrics only, those are read as they are among all, and of the others nothing is counted', t => {
  const taken = new Set(['a', 'b']);
  const named = fc
    .tuple(metric, fc.constantFrom('a', 'b', 'c', 'd'))
    .map(([data, name]) => ({ ...data, descriptor: { ...data.descriptor, name } }));
  fc.assert(
    fc.property(fc.array(named, { maxLength: 5 }), metrics => {
      const request = serialize(resourceMetrics({ id: 'x' }, metrics as MetricData[]));
      const all = decodeMetrics(request).map(({ resource, points }) => ({
        resource,
        points: points.filter(({ metric: name }) => taken.has(name)),
      }));
      t.deepEqual(
        decodeMetrics(request, {}, taken),
        all.filter(({ points }) => points.length > 0),
      );
    }),
    { numRuns: 300 },
  );
  const nothing = serialize(resourceMetrics({ id: 'x' }, [counter('c', Number.NaN)]));
  const [skipped, skippedOfAll]: Skipped[] = [{}, {}];
  decodeMetrics(nothing, skipped, taken);
  decodeMetrics(nothing, skippedOfAll);
  t.deepEqual([skipped, skippedOfAll], [{}, { 'not-finite': 1 }]);
});

test('serialized requests, concatenated, are all resources', t => {
  const requests = ['a', 'b', 'c'].map(id =>
    serialize(resourceMetrics({ 'sculptor.instance.id': id }, [counter('container.cpu.time', 1)])),
  );
  const decoded = decodeMetrics(Buffer.concat(requests));
  t.deepEqual(
    decoded.map(({ resource }) => resource['sculptor.instance.id']),
    ['a', 'b', 'c'],
  );
});

test('a request cut at any byte is an error with an offset, or the resources before the cut', t => {
  const whole = Buffer.concat(
    ['a', 'b'].map(id =>
      serialize(
        resourceMetrics({ id }, [counter('container.cpu.time', 1.5, { cpu: 3, name: 'ä' })]),
      ),
    ),
  );
  const all = decodeMetrics(whole);
  let valid = 0;
  for (let length = 0; length < whole.length; length++) {
    try {
      t.deepEqual(decodeMetrics(whole.subarray(0, length)), all.slice(0, valid++ === 0 ? 0 : 1));
    } catch (error) {
      t.true(error instanceof ProtocolError);
      t.is((error as ProtocolError).code, 'OTLP_MALFORMED');
      t.is(typeof (error as ProtocolError).context['at'], 'number');
    }
  }
  t.is(valid, 2);
});

test('random bytes are decoded or refused, and nothing else', t => {
  const decode = (bytes: Uint8Array) => {
    try {
      decodeMetrics(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
    }
  };
  t.notThrows(() =>
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), decode), { numRuns: 3000 }),
  );
  const whole = serialize(resourceMetrics({ id: 'a' }, [counter('m', 1.5, { cpu: 3 })]));
  const flips = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 })), {
    minLength: 1,
    maxLength: 4,
  });
  t.notThrows(() =>
    fc.assert(
      fc.property(flips, changes => {
        const bytes = Uint8Array.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        decode(bytes);
      }),
      { numRuns: 3000 },
    ),
  );
});

test('a length that claims more than there is allocates nothing', t => {
  // resource_metrics of 2^60 bytes
  const bytes = Buffer.from([10, 128, 128, 128, 128, 128, 128, 128, 128, 16, 1]);
  t.throws(() => decodeMetrics(bytes), {
    instanceOf: ProtocolError,
    message: /byte 1: wanted 1152921504606847000 bytes/,
  });
});

test('nesting is read to a bounded depth', t => {
  let value = stringField(1, 'x');
  for (let depth = 0; depth < 200; depth++) value = bytesField(5, bytesField(1, value));
  const attribute = Buffer.concat([stringField(1, 'k'), bytesField(2, value)]);
  const request = bytesField(1, bytesField(1, bytesField(1, attribute)));
  t.throws(() => decodeMetrics(request), { instanceOf: ProtocolError, message: /nested values/ });
  let group = Buffer.alloc(0);
  for (let depth = 0; depth < 200; depth++) {
    group = Buffer.concat([Buffer.from([0xa3, 0x06]), group, Buffer.from([0xa4, 0x06])]);
  }
  t.throws(() => decodeMetrics(group), { instanceOf: ProtocolError, message: /nested groups/ });
});

test('unknown fields of every wire type are skipped', t => {
  const unknown = Buffer.concat([
    varintField(100, 2 ** 40),
    Buffer.from([0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]),
    stringField(100, 'x'),
    Buffer.from([0xa3, 0x06, ...varintField(1, 1), 0xa4, 0x06]),
    Buffer.from([0xa5, 0x06, 1, 2, 3, 4]),
  ]);
  const request = serialize(resourceMetrics({ id: 'a' }, [counter('m', 1)]));
  t.deepEqual(decodeMetrics(Buffer.concat([unknown, request, unknown])), decodeMetrics(request));
});

const fixed64 = (field: number, low: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(low);
  return Buffer.concat([Buffer.from([field * 8 + 1]), bytes]);
};
const request = (data: Buffer) => {
  const metric = Buffer.concat([stringField(1, 'm'), data]);
  return bytesField(1, bytesField(2, bytesField(2, metric)));
};
const skips = test.macro((t, data: Buffer, wanted: Skipped) => {
  const skipped: Skipped = {};
  t.deepEqual(decodeMetrics(request(data), skipped), []);
  t.deepEqual(skipped, wanted);
});
const at = fixed64(3, 1);
const value = fixed64(4, 0);
test('a summary is left out and counted', skips, bytesField(11, bytesField(1, at)), { summary: 1 });
test(
  'a point that says "no recorded value" is left out and counted',
  skips,
  bytesField(5, bytesField(1, Buffer.concat([at, value, varintField(8, 1)]))),
  { 'no-value': 1 },
);
test('a point without a value is left out and counted', skips, bytesField(5, bytesField(1, at)), {
  'no-value': 1,
});
const notANumber = Buffer.concat([
  Buffer.from([4 * 8 + 1]),
  Buffer.from([0, 0, 0, 0, 0, 0, 0xf8, 0x7f]),
]);
test(
  'a point whose value is NaN is left out and counted',
  skips,
  bytesField(5, bytesField(1, Buffer.concat([at, notANumber]))),
  { 'not-finite': 1 },
);
test('a point without a time is left out and counted', skips, bytesField(5, bytesField(1, value)), {
  'no-time': 1,
});
test(
  'a sum without a temporality is left out and counted',
  skips,
  bytesField(7, bytesField(1, Buffer.concat([at, value]))),
  { 'no-temporality': 1 },
);
test(
  'a histogram whose counts do not fit its bounds is left out and counted',
  skips,
  bytesField(
    9,
    Buffer.concat([
      bytesField(1, Buffer.concat([at, fixed64(6, 1), fixed64(7, 1)])),
      varintField(2, 2),
    ]),
  ),
  { 'bucket-count': 1 },
);
test(
  'an exponential histogram of negative values is left out and counted',
  skips,
  bytesField(
    10,
    Buffer.concat([
      bytesField(1, Buffer.concat([at, bytesField(9, varintField(2, 1))])),
      varintField(2, 2),
    ]),
  ),
  { 'negative-values': 1 },
);

test('a histogram without buckets has one, and a sum that is absent is NaN', t => {
  const data = Buffer.concat([
    bytesField(1, Buffer.concat([at, fixed64(4, 7)])),
    varintField(2, 2),
  ]);
  const [decoded] = decodeMetrics(request(bytesField(9, data)));
  t.deepEqual(decoded?.points[0]?.value, {
    kind: 'explicit',
    count: 7,
    sum: Number.NaN,
    bounds: [],
    counts: [7],
  });
});

test('a key named __proto__ is a key', t => {
  const attribute = Buffer.concat([
    stringField(1, '__proto__'),
    bytesField(2, bytesField(6, Buffer.alloc(0))),
  ]);
  const point = Buffer.concat([at, value, bytesField(7, attribute)]);
  const [decoded] = decodeMetrics(request(bytesField(5, bytesField(1, point))));
  const attributes = decoded?.points[0]?.attributes ?? {};
  t.true(Object.hasOwn(attributes, '__proto__'));
  t.is(Object.getPrototypeOf(attributes), Object.prototype);
});
