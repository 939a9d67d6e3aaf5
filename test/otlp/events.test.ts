import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { actionSchema, actionStateSchema } from '../../src/contract/action.ts';
import { ConfigError, ProtocolError } from '../../src/contract/errors.ts';
import { type EventName, type OutgoingEvent, parseEvent } from '../../src/contract/events.ts';
import { placementSchema, topologySchema } from '../../src/contract/host.ts';
import { policySchema } from '../../src/contract/policy.ts';
import type { LogEvent } from '../../src/contract/telemetry.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { eventEncoder } from '../../src/otlp/events-exporter.ts';
import { plainEvent } from '../../src/otlp/plain-event.ts';
import {
  exportKeys,
  generateKeys,
  readPrivateKey,
  readPublicKeys,
  signedEvent,
  verifyEvent,
} from '../../src/otlp/signing.ts';
import { socketFolder } from '../support/sockets.ts';

const encode = eventEncoder('sculptor.agent', { 'service.name': 'x', 'host.id': 'h' });

/** Through the bytes, as the other end gets it. */
function sent(event: OutgoingEvent): LogEvent {
  const [decoded] = decodeLogs(encode(event, 1_700_000_000.25));
  if (!decoded) throw new Error('nothing was decoded');
  return decoded;
}

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 10 });
const part = name
  .map(text => text.replaceAll('/', '-'))
  .filter(text => text !== '.' && text !== '..');
const path = fc.array(part, { minLength: 1, maxLength: 3 }).map(parts => `/${parts.join('/')}`);
const instance = fc.record({
  id: fc.oneof(path, part),
  kind: fc.constantFrom('vm' as const, 'cgroup' as const),
  name,
});
const bytes = fc.double({ min: 0, max: 2 ** 60, noNaN: true }).map(Math.abs);
const ratio = fc.double({ min: 0, max: 1, noNaN: true }).map(Math.abs);
const stamp = fc.double({ min: 1, max: 4e9, noNaN: true });
const id = fc.integer({ min: 0, max: 64 });
const tid = fc.integer({ min: 1, max: 4_194_304 });
const ids = fc.uniqueArray(id, { maxLength: 4 }).map(list => list.sort((a, b) => a - b));
const someIds = fc
  .uniqueArray(id, { minLength: 1, maxLength: 4 })
  .map(l => l.sort((a, b) => a - b));

const topology = fc.record({
  hostId: name,
  hostName: fc.string(),
  kernel: fc.string(),
  cgroupVersion: fc.constantFrom(1 as const, 2 as const),
  cpus: fc.array(
    fc.record({
      id,
      online: fc.boolean(),
      core: fc.integer(),
      package: fc.integer(),
      llc: id,
      node: id,
    }),
    { minLength: 1, maxLength: 3 },
  ),
  nodes: fc.array(
    fc.record({ id, distances: ids, memoryTotalBytes: bytes, memoryFreeBytes: bytes }),
    { maxLength: 2 },
  ),
});

const placement = fc.record(
  {
    hostId: name,
    instance,
    owner: fc.constantFrom('none' as const, 'systemd' as const),
    alive: fc.boolean(),
    cgroup: fc.record({
      path: name,
      parent: fc.option(name),
      weight: fc.option(bytes),
      idle: fc.option(fc.boolean()),
      quotaCores: fc.option(stamp),
    }),
    cpuset: fc.record({ path: fc.option(name), own: ids, effective: ids, parentEffective: ids }),
    tasks: fc.array(
      fc.record(
        {
          tid,
          tgid: tid,
          startTicks: fc.maxSafeNat(),
          name: fc.string(),
          vcpu: id,
          affinity: ids,
          ownMask: fc.option(fc.boolean()),
          cpu: id,
        },
        {
          requiredKeys: ['tid', 'tgid', 'startTicks', 'name', 'affinity', 'ownMask', 'cpu'],
          noNullPrototype: true,
        },
      ),
      { maxLength: 3 },
    ),
    taskCount: fc.nat(),
    bytesByNode: fc.dictionary(id.map(String), bytes, { maxKeys: 2, noNullPrototype: true }),
  },
  {
    requiredKeys: [
      'hostId',
      'instance',
      'owner',
      'alive',
      'cgroup',
      'cpuset',
      'tasks',
      'taskCount',
    ],
    noNullPrototype: true,
  },
);

const set = fc.oneof(
  someIds.map(cpus => ({ cpus })),
  fc.integer({ min: 1, max: 10_000 }).map(weight => ({ weight })),
  fc.boolean().map(idle => ({ idle })),
  fc.double({ min: 0.0001, max: 0.1, noNaN: true }).map(sliceSeconds => ({ sliceSeconds })),
);
const task = fc.oneof(
  fc.record({ kind: fc.constant('thread' as const), tid, startTicks: fc.nat() }),
  fc.record({ kind: fc.constant('class' as const), cgroup: path }),
  fc.record({
    kind: fc.constant('class' as const),
    parent: fc.record({ tgid: tid, startTicks: fc.nat() }),
    exe: name,
  }),
);
const real = fc.double({ noNaN: true, noDefaultInfinity: true }).map(n => n + 0);
const interval = fc.tuple(real, real);
const predicted = fc.record({
  metric: name,
  without: real,
  with: real,
  gainRatio: ratio,
  interval,
  probability: ratio,
});
const state = fc.constantFrom(...actionStateSchema.options);
const action = fc.record({
  id: fc.uuid(),
  recommendationId: fc.uuid(),
  hostId: name,
  state,
  previousState: fc.option(state),
  mode: fc.constantFrom('observe' as const, 'enforce' as const),
  at: stamp,
  reason: fc.option(
    fc.record({ code: fc.constantFrom('worse' as const, 'mode' as const), message: name }),
  ),
  beneficiary: fc.option(instance),
  mechanism: fc.option(fc.constantFrom('direct' as const, 'mirror' as const)),
  mechanisms: fc.array(
    fc.record({ mechanism: fc.constant('direct' as const), answer: fc.string() }),
    { maxLength: 2 },
  ),
  moves: fc.array(fc.record({ instance, tasks: fc.array(task, { maxLength: 2 }), set }), {
    maxLength: 2,
  }),
  allocations: fc.array(
    fc.record({
      resource: name,
      before: fc.string(),
      wanted: fc.string(),
      after: fc.option(fc.string()),
    }),
    { maxLength: 2 },
  ),
  predicted: fc.option(predicted),
  realised: fc.option(
    fc.record({
      metric: name,
      without: real,
      with: real,
      gainRatio: real,
      interval,
      samples: fc.nat(),
      neighbours: fc.array(
        fc.record({ instance: name, degradationRatio: real, limitRatio: real }),
        { maxLength: 2 },
      ),
    }),
  ),
  leaseEnds: fc.option(stamp),
});

/** Numbers have one zero on the wire, and text is UTF-8: what JSON keeps is what must come through. */
const normal = <T>(value: T): T => JSON.parse(Buffer.from(JSON.stringify(value)).toString()) as T;

test('a topology comes through OTLP as it was', t => {
  fc.assert(
    fc.property(topology.map(normal), record => {
      topologySchema.parse(record);
      const event = sent(plainEvent('sculptor.topology', record, 'b'));
      t.deepEqual(parseEvent('sculptor.topology', event), record);
    }),
  );
});

test('a placement comes through OTLP as it was, nulls and empty lists too', t => {
  fc.assert(
    fc.property(placement.map(normal), record => {
      placementSchema.parse(record);
      const event = sent(plainEvent('sculptor.placement', record, 'b'));
      t.deepEqual(parseEvent('sculptor.placement', event), record as never);
    }),
  );
});

test('an action comes through OTLP as it was', t => {
  fc.assert(
    fc.property(action.map(normal), record => {
      actionSchema.parse(record);
      const event = sent(plainEvent('sculptor.action', record as never, 'b'));
      t.deepEqual(parseEvent('sculptor.action', event) as unknown, record);
    }),
  );
});

test('a policy comes through OTLP as it was', t => {
  const policy = policySchema.parse({ instances: [{ match: '/a/**', class: 'batch' }] });
  const record = { hostId: 'h', at: 5.5, policy, mode: 'enforce' as const };
  const event = sent(plainEvent('sculptor.policy', record, 'b'));
  t.deepEqual(parseEvent('sculptor.policy', event), record);
});

test('a field that is undefined is absent, not null', t => {
  const policy = policySchema.parse({ instances: [{ match: '/a', class: undefined }] });
  const event = sent(
    plainEvent('sculptor.policy', { hostId: 'h', at: 1, policy, mode: 'observe' as const }, 'b'),
  );
  t.notThrows(() => parseEvent('sculptor.policy', event));
});

test('name, body, time, scope and resource come through', t => {
  const record = { hostId: 'h', created: 1, epoch: 2, sequence: 3 };
  const event = sent(signedEvent('sculptor.heartbeat', record, generateKeys().privateKey, 'alive'));
  t.is(event.eventName, 'sculptor.heartbeat');
  t.is(event.body, 'alive');
  t.true(Math.abs(event.time - 1_700_000_000.25) < 3e-7);
  t.is(event.scope, 'sculptor.agent');
  t.deepEqual(event.resource, { 'service.name': 'x', 'host.id': 'h' });
  t.is(event.attributes['sculptor.engine.sequence'], 3);
});

test('people find the ids of an action as flat attributes', t => {
  const [record] = fc.sample(action, { numRuns: 1, seed: 1 });
  const { attributes } = plainEvent('sculptor.action', normal(record) as never, 'b');
  t.is(attributes['sculptor.action.id'], record?.id);
  t.is(attributes['sculptor.recommendation.id'], record?.recommendationId);
  t.is(attributes['sculptor.action.state'], record?.state);
});

const heartbeat = { hostId: 'h', created: 1, epoch: 2, sequence: 3 };

test('what an engine signs is verified by its public key, also among others', t => {
  const ours = generateKeys();
  const event = sent(signedEvent('sculptor.heartbeat', heartbeat, ours.privateKey, 'b'));
  t.notThrows(() =>
    verifyEvent(event, 'sculptor.heartbeat', [generateKeys().publicKey, ours.publicKey]),
  );
  t.deepEqual(parseEvent('sculptor.heartbeat', event), heartbeat);
});

const refused = test.macro(
  (t, change: (event: LogEvent) => LogEvent, as: EventName, wanted: RegExp) => {
    const keys = generateKeys();
    const event = sent(signedEvent('sculptor.heartbeat', heartbeat, keys.privateKey, 'b'));
    const error = t.throws(() => verifyEvent(change(event), as, [keys.publicKey]), {
      instanceOf: ProtocolError,
    });
    t.is(error?.code, 'EVENT_SIGNATURE');
    t.regex(error?.message ?? '', wanted);
  },
);
const withAttribute = (key: string, value: string) => (event: LogEvent) => ({
  ...event,
  attributes: { ...event.attributes, [key]: value },
});
const same = (event: LogEvent) => event;
test(
  'a payload that was changed by one space is refused',
  refused,
  withAttribute('sculptor.payload', `${JSON.stringify(heartbeat)} `),
  'sculptor.heartbeat',
  /matches none/,
);
test(
  'a signature under another event name is refused',
  refused,
  same,
  'sculptor.withdrawal',
  /matches none/,
);
test(
  'a signature that is no base64 of 64 bytes is refused',
  refused,
  withAttribute('sculptor.signature', 'x'),
  'sculptor.heartbeat',
  /matches none/,
);
test(
  'an event without a signature is refused and the attribute named',
  refused,
  event => {
    const { 'sculptor.signature': _, ...attributes } = event.attributes;
    return { ...event, attributes };
  },
  'sculptor.heartbeat',
  /sculptor\.signature: wanted a string/,
);

test('a signature of an engine that is not trusted is refused', t => {
  const event = sent(signedEvent('sculptor.heartbeat', heartbeat, generateKeys().privateKey, 'b'));
  t.throws(() => verifyEvent(event, 'sculptor.heartbeat', [generateKeys().publicKey]), {
    instanceOf: ProtocolError,
  });
});

test('keys are kept as PEM files and read back', t => {
  const folder = socketFolder(t);
  const keys = generateKeys();
  const { privatePem, publicPem } = exportKeys(keys);
  writeFileSync(join(folder, 'private.pem'), privatePem);
  writeFileSync(join(folder, 'public.pem'), publicPem);
  t.true(readPrivateKey(join(folder, 'private.pem')).equals(keys.privateKey));
  t.true(readPublicKeys([join(folder, 'public.pem')])[0]?.equals(keys.publicKey));
});

test('the key of the other kind is refused by its name: who only verifies is not to hold a private one', t => {
  const folder = socketFolder(t);
  const { privatePem, publicPem } = exportKeys(generateKeys());
  writeFileSync(join(folder, 'private.pem'), privatePem);
  writeFileSync(join(folder, 'public.pem'), publicPem);
  t.throws(() => readPublicKeys([join(folder, 'private.pem')]), {
    code: 'CONFIG_KEYS_MISSING',
    message: /wanted an Ed25519 public key \(PEM\), got a private one;/,
  });
  t.throws(() => readPrivateKey(join(folder, 'public.pem')), {
    code: 'CONFIG_KEYS_MISSING',
    message: /wanted an Ed25519 private key \(PEM\), got a public one;/,
  });
});

test('a key file that is absent or no key, or no file at all, is a ConfigError that says what makes one', t => {
  const folder = socketFolder(t);
  writeFileSync(join(folder, 'bad.pem'), 'x');
  const expected = { instanceOf: ConfigError, code: 'CONFIG_KEYS_MISSING', message: /keys init/ };
  t.throws(() => readPrivateKey(join(folder, 'none.pem')), expected);
  t.throws(() => readPublicKeys([join(folder, 'bad.pem')]), expected);
  t.throws(() => readPublicKeys([]), expected);
});

test('a log record without an event name is left out and counted', t => {
  const skipped = { unnamed: 0 };
  const request = encode({ eventName: '' as EventName, body: 'b', attributes: {} }, 1);
  t.deepEqual(decodeLogs(request, skipped), []);
  t.is(skipped.unnamed, 1);
});

test('attributes of every kind come through', t => {
  const attributes = {
    text: 'ä',
    yes: true,
    no: false,
    negative: -5,
    large: -(2 ** 52),
    real: 0.1,
    nothing: null,
    bytes: new Uint8Array([1, 2]),
    list: [1, 'x', null, []],
    map: { a: { b: [{}] } },
  };
  const event = sent({ eventName: 'sculptor.policy', body: 'b', attributes });
  t.deepEqual(event.attributes, attributes);
});

test('an event cut at any byte is an error with an offset, or nothing', t => {
  const whole = encode(
    plainEvent(
      'sculptor.policy',
      { hostId: 'h', at: 1, policy: policySchema.parse({}), mode: 'observe' },
      'b',
    ),
    1,
  );
  for (let length = 1; length < whole.length; length++) {
    const error = t.throws(() => decodeLogs(whole.subarray(0, length)), {
      instanceOf: ProtocolError,
    });
    t.is(error?.code, 'OTLP_MALFORMED');
  }
});

test('random bytes are decoded to events or refused, and nothing else', t => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), input => {
        try {
          decodeLogs(input);
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
        }
      }),
      { numRuns: 3000 },
    ),
  );
});
