import test from 'ava';
import { ProtocolError } from '../../src/contract/errors.ts';
import { isEventName, parseEvent, signedBytes } from '../../src/contract/events.ts';
import type { Attributes, LogEvent } from '../../src/contract/telemetry.ts';

const heartbeat = { hostId: 'h', created: 1, epoch: 2, sequence: 3 };

function event(eventName: string, attributes: Attributes): LogEvent {
  return { eventName, time: 1, body: '', attributes, resource: {}, scope: '' };
}

test('a signed event is read from its payload and from nothing else', t => {
  const attributes = {
    'sculptor.payload': JSON.stringify(heartbeat),
    'sculptor.detail': { ...heartbeat, epoch: 9 },
    epoch: 7,
  };
  t.deepEqual(parseEvent('sculptor.heartbeat', event('sculptor.heartbeat', attributes)), heartbeat);
});

const refused = test.macro((t, attributes: Attributes, wanted: RegExp) => {
  const error = t.throws(
    () => parseEvent('sculptor.heartbeat', event('sculptor.heartbeat', attributes)),
    {
      instanceOf: ProtocolError,
    },
  );
  t.is(error?.code, 'EVENT_INVALID');
  t.regex(error?.message ?? '', wanted);
});

test(
  'a missing payload is named',
  refused,
  {},
  /sculptor\.payload: wanted a JSON string, got undefined/,
);
test('a payload that is no JSON is named', refused, { 'sculptor.payload': '{' }, /not JSON/);
test(
  'a wrong field is named by its path',
  refused,
  { 'sculptor.payload': '{"hostId":"h","created":1,"epoch":"x","sequence":1}' },
  /epoch/,
);
test(
  'an unknown field is refused',
  refused,
  { 'sculptor.payload': JSON.stringify({ ...heartbeat, more: 1 }) },
  /more/,
);

test('the signed bytes cover the name of the event', t => {
  t.notDeepEqual(signedBytes('sculptor.heartbeat', '{}'), signedBytes('sculptor.withdrawal', '{}'));
});

test('only the names of the contract are events', t => {
  t.true(isEventName('sculptor.topology'));
  t.false(isEventName('toString'));
});
