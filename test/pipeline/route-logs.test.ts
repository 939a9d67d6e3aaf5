import test from 'ava';
import fc from 'fast-check';
import { ProtocolError } from '../../src/contract/errors.ts';
import type { OutgoingEvent } from '../../src/contract/events.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { eventEncoder } from '../../src/otlp/events-exporter.ts';
import { routeLogs } from '../../src/pipeline/route-logs.ts';

const agent = eventEncoder('sculptor.agent', { 'service.name': 'agent' });
const engine = eventEncoder('sculptor.engine', { 'service.name': 'engine' });

function event(eventName: string, attributes: OutgoingEvent['attributes'] = { a: 1 }) {
  return { eventName, body: 'b', attributes } as OutgoingEvent;
}

const goes = test.macro((t, eventName: string, to: 'engine' | 'sculptor') => {
  const request = agent(event(eventName), 5);
  const routed = routeLogs(request, 'approve');
  t.is(routed[to === 'engine' ? 'sculptor' : 'engine'], null);
  const [got] = decodeLogs(routed[to] ?? new Uint8Array());
  const [sent] = decodeLogs(request);
  const stamp = to === 'sculptor' ? { 'sculptor.mode': 'approve' } : {};
  t.deepEqual(got, sent && { ...sent, attributes: { ...sent.attributes, ...stamp } });
  t.is(routed.records[to], 1);
});
for (const name of ['topology', 'placement', 'action', 'policy']) {
  test(`sculptor.${name} goes to the engine`, goes, `sculptor.${name}`, 'engine');
}
for (const name of ['recommendation', 'heartbeat', 'withdrawal']) {
  test(`sculptor.${name} goes to the sculptor with the mode`, goes, `sculptor.${name}`, 'sculptor');
}

test('what goes to the engine alone keeps its bytes', t => {
  const request = agent(event('sculptor.topology'), 5);
  t.deepEqual(routeLogs(request, 'observe').engine, Buffer.from(request));
});

test('every other event goes nowhere and is counted', t => {
  const request = Buffer.concat(
    ['sculptor.unknown', 'toString', '__proto__', ''].map(name => agent(event(name), 5)),
  );
  const routed = routeLogs(request, 'enforce');
  t.is(routed.engine, null);
  t.is(routed.sculptor, null);
  t.deepEqual(routed.dropped, { unnamed: 1, unrouted: 3 });
});

test('a stamp that the sender put on is replaced, wherever and how often it stands', t => {
  const forged = { 'sculptor.mode': 'enforce', before: 1 };
  const once = engine(event('sculptor.heartbeat', forged), 5);
  // The sender's record, stamped by another pipeline on the way: two stamps, and then ours.
  const twice = routeLogs(once, 'enforce').sculptor ?? Buffer.alloc(0);
  for (const request of [once, twice]) {
    const bytes = routeLogs(request, 'observe').sculptor ?? Buffer.alloc(0);
    t.deepEqual(decodeLogs(bytes)[0]?.attributes, { before: 1, 'sculptor.mode': 'observe' });
    t.false(bytes.includes('enforce'));
  }
});

test('a mixed request is split, and each part keeps resource, scope and order', t => {
  const names = [
    'sculptor.topology',
    'sculptor.heartbeat',
    'other',
    'sculptor.action',
    'sculptor.withdrawal',
  ];
  const request = Buffer.concat(names.map((name, i) => (i % 2 ? engine : agent)(event(name), i)));
  const routed = routeLogs(request, 'off');
  const seen = (bytes: Buffer | null) =>
    decodeLogs(bytes ?? new Uint8Array()).map(e => [
      e.eventName,
      e.scope,
      e.resource['service.name'],
    ]);
  t.deepEqual(seen(routed.engine), [
    ['sculptor.topology', 'sculptor.agent', 'agent'],
    ['sculptor.action', 'sculptor.engine', 'engine'],
  ]);
  t.deepEqual(seen(routed.sculptor), [
    ['sculptor.heartbeat', 'sculptor.engine', 'engine'],
    ['sculptor.withdrawal', 'sculptor.agent', 'agent'],
  ]);
});

test('a request cut at any byte is an error or is split without the lost end', t => {
  const request = Buffer.concat([
    agent(event('sculptor.topology'), 5),
    engine(event('sculptor.heartbeat'), 5),
  ]);
  for (let length = 0; length < request.length; length++) {
    try {
      routeLogs(request.subarray(0, length), 'off');
    } catch (error) {
      t.true(error instanceof ProtocolError);
    }
  }
  t.pass();
});

test('random bytes are split or refused, and what is passed on is OTLP', t => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        try {
          routeLogs(bytes, 'off');
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
        }
      }),
      { numRuns: 2000 },
    ),
  );
});
