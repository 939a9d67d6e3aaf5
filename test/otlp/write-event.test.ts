import assert from 'node:assert/strict';
import type { AnyValue } from '@opentelemetry/api';
import { ProtobufLogsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import test from 'ava';
import fc from 'fast-check';
import type { AttributeValue } from '../../src/contract/telemetry.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { writeEvent } from '../../src/otlp/write-event.ts';
import { sdkScope } from './sdk-metrics.ts';

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

const text = fc.string({ maxLength: 40, unit: 'grapheme' });
/** A name that objects have for something else is lost by the SDK's own copies. */
const isName = (key: string): boolean => key !== '__proto__';
const name = text.filter(isName);
const { value } = fc.letrec<{ value: AttributeValue }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    text,
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.double(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 20 }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(name, tie('value'), { maxKeys: 4 }),
  ),
}));
const common = { scope: 'scope' };
const time = fc.tuple(
  fc.integer({ min: 0, max: 2 ** 33 }),
  fc.integer({ min: 0, max: 999_999_999 }),
);
const ns = ([seconds, nanoseconds]: readonly [number, number]): bigint =>
  BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
const severity = { number: 9, text: 'INFO' };

test('whatever an event has is written in the same bytes as by the SDK', t => {
  fc.assert(
    fc.property(
      fc.record({
        // The SDK's resources have no attribute without a name.
        resource: fc.dictionary(fc.string({ minLength: 1 }).filter(isName), text, { maxKeys: 3 }),
        eventName: fc.constantFrom('sculptor.placement', 'größer'),
        body: text,
        attributes: fc.dictionary(name, value, { maxKeys: 5 }),
        at: time,
        seen: time,
      }),
      ({ resource, eventName, body, attributes, at, seen }) => {
        const wanted = ProtobufLogsSerializer.serializeRequest([
          {
            hrTime: at,
            hrTimeObserved: seen,
            severityNumber: severity.number,
            severityText: severity.text,
            body,
            eventName,
            resource: resourceFromAttributes(resource),
            instrumentationScope: sdkScope(common.scope),
            attributes: attributes as Record<string, AnyValue>,
            droppedAttributesCount: 0,
          },
        ]);
        const times = { unixNanoseconds: ns(at), observedUnixNanoseconds: ns(seen) };
        const event = { ...common, severity, resource, eventName, body, attributes };
        assert.equal(hex(writeEvent({ ...event, ...times })), hex(wanted));
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});

const event = {
  ...common,
  severity,
  resource: { 'host.id': 'h' },
  eventName: 'sculptor.placement',
  body: 'b',
  unixNanoseconds: 1n,
  observedUnixNanoseconds: 2n,
};

test('what is undefined is left out, and is null within a list', t => {
  const attributes = { a: undefined, b: { c: undefined, d: 1 }, e: [undefined, 2] };
  const [decoded] = decodeLogs(writeEvent({ ...event, attributes }));
  t.deepEqual(decoded?.attributes, { b: { d: 1 }, e: [null, 2] });
});

test('an attribute that cannot be written is named, and nothing of it is in what is written next', t => {
  const before = writeEvent({ ...event, attributes: { mode: 'user' } });
  t.throws(() => writeEvent({ ...event, attributes: { mode: { user: () => 1 } } }), {
    instanceOf: TypeError,
    message: 'attribute user: a function cannot be written',
  });
  t.deepEqual(writeEvent({ ...event, attributes: { mode: 'user' } }), before);
});
