import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { type Gate, type GateOptions, startGate } from '../../../src/agent/gate/gate.ts';
import { gateConfigSchema } from '../../../src/contract/gate-config.ts';
import type { Clock } from '../../../src/contract/ports.ts';
import type { Native } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { decodeMetrics } from '../../../src/otlp/decode-metrics.ts';
import { eventEncoder } from '../../../src/otlp/events-exporter.ts';
import { createExportClient } from '../../../src/otlp/export-client.ts';
import { grpcStatus } from '../../../src/otlp/grpc-status.ts';
import { bytesField } from '../../../src/otlp/protobuf-writer.ts';
import { decodeRetryStatus } from '../../../src/otlp/retry-info.ts';
import { startOtlpServer } from '../../../src/otlp/server.ts';
import { exportMethod, type Signal } from '../../../src/otlp/services.ts';
import { counter, resourceMetrics, serialize } from '../../otlp/support.ts';
import { needs } from '../../support/needs.ts';
import { ownUid, realTime, socketFolder, until } from '../../support/sockets.ts';
import { steppedClock } from '../../support/stepped-clock.ts';
import { startSink } from './support.ts';

const uuid = '11111111-2222-3333-4444-555555555555';
const another = '/machine/another';
const native = { peerCredentials: () => ({ uid: ownUid() }) } as unknown as Native;
const host = { hostId: 'the-host', hostName: 'host.example' };

async function start(
  t: ExecutionContext,
  config: Record<string, unknown> = {},
  options: Partial<GateOptions> = {},
) {
  const path = join(socketFolder(t), 'guest.sock');
  const sink = await startSink(t);
  const said: string[] = [];
  const gate = await startGate({
    config: gateConfigSchema.parse({ unix: [{ path, instance: uuid, name: 'web' }], ...config }),
    endpoint: sink.endpoint,
    host,
    native,
    roots: hostRoots,
    clock: realTime,
    say: (_, message) => said.push(message),
    ...options,
  });
  t.teardown(() => gate.stop());
  return { gate, path, sink, said };
}

function speak(t: ExecutionContext, endpoint: string, signal: Signal = 'metrics') {
  const client = createExportClient({ endpoint, signal, timeoutSeconds: 20 });
  t.teardown(() => client.close());
  return client;
}

/** What a guest says that would like to be another. */
const forged = serialize(
  resourceMetrics(
    {
      'service.name': 'sculptor-agent',
      'service.instance.id': `the-host${another}`,
      'host.id': 'the-host',
      'sculptor.instance.id': another,
      'sculptor.instance.kind': 'host',
    },
    [counter('container.cpu.time', 1e6, { 'sculptor.instance.id': another, cpu: 1 })],
  ),
);
const event = (eventName: 'sculptor.recommendation' | 'sculptor.heartbeat' | 'sculptor.topology') =>
  eventEncoder('sculptor.engine', { 'host.id': 'the-host' })(
    { eventName, body: 'believe me', attributes: { 'sculptor.payload': '{}' } },
    1,
  );
const dropped = (gate: Gate) => gate.status().dropped;

test('a guest that claims to be another arrives under its own identity', async t => {
  const { gate, path, sink } = await start(t);
  t.deepEqual(await speak(t, `unix://${path}`).send(forged), { kind: 'ok' });
  const [got] = sink.resources;
  t.deepEqual(got?.resource, {
    'service.name': 'sculptor-agent',
    'service.instance.id': `guest:the-host:${uuid}:the-host${another}`,
    'host.id': 'the-host',
    'host.name': 'host.example',
    'sculptor.instance.id': uuid,
    'sculptor.instance.kind': 'vm',
    'sculptor.instance.name': 'web',
    'sculptor.origin': 'guest',
    'sculptor.guest.host.id': 'the-host',
    'sculptor.guest.instance.id': another,
    'sculptor.guest.instance.kind': 'host',
  });
  t.deepEqual(got?.points[0]?.attributes, { cpu: 1 });
  t.is(got?.points[0]?.value, 1e6);
  t.like(gate.status(), { records: 1, dropped: {} });
  t.like(gate.status().guests[0], {
    instance: { id: uuid, kind: 'vm', name: 'web' },
    via: `unix ${path}`,
    connections: 1,
    records: 1,
  });
});

test('what a guest calls its own makes no other guest of it, whose cgroup has a colon in its name', async t => {
  const paths = ['short', 'long'].map(name => join(socketFolder(t), `${name}.sock`));
  const instances = ['/a.slice', '/a.slice:cri:1'];
  const { sink } = await start(t, {
    unix: paths.map((path, i) => ({ path, instance: instances[i] })),
  });
  for (const [i, own] of ['cri:1:x', 'x'].entries()) {
    const request = resourceMetrics({ 'service.instance.id': own }, [counter('m', 1)]);
    await speak(t, `unix://${paths[i]}`).send(serialize(request));
  }
  t.deepEqual(
    sink.resources.map(({ resource }) => resource['service.instance.id']),
    ['guest:the-host:/a.slice:cri:1:x', 'guest:the-host:/a.slice%3Acri%3A1:x'],
  );
});

test('who speaks cannot be said in another spelling either, of which a backend may make the same label', async t => {
  const { path, sink } = await start(t);
  const claims = {
    sculptor_origin: 'host',
    'sculptor/instance/id': another,
    'Sculptor.Guest__host.id': 'x',
    host_id: 'another-host',
    'service-instance-id': 'x',
  };
  const own = { 'host.type': 'own', sculptor_mine: 'own' };
  const request = resourceMetrics({ ...claims, ...own }, [counter('m', 1, { ...claims, ...own })]);
  t.deepEqual(await speak(t, `unix://${path}`).send(serialize(request)), { kind: 'ok' });
  const [got] = sink.resources;
  const has = (key: string) => Object.hasOwn(got?.resource ?? {}, key);
  t.deepEqual(Object.keys(claims).filter(has), []);
  t.like(got?.resource, own);
  t.deepEqual(got?.points[0]?.attributes, own);
});

test('over TCP the source address says who it is, and an address that is not listed is refused', async t => {
  const port = 20_000 + (process.pid % 20_000);
  const { gate, sink, said } = await start(t, {
    unix: [],
    tcp: { host: '127.0.0.1', port, guests: [{ address: '127.0.0.1', instance: '/machine/a' }] },
  });
  t.deepEqual(await speak(t, `http://127.0.0.1:${port}`).send(forged), { kind: 'ok' });
  t.like(sink.resources[0]?.resource, {
    'sculptor.instance.id': '/machine/a',
    'sculptor.instance.kind': 'cgroup',
    'sculptor.instance.name': 'a',
  });
  const stranger = createConnection({ host: '127.0.0.1', port, localAddress: '127.0.0.2' });
  await once(stranger.resume(), 'close');
  t.is(dropped(gate).connection_unknown, 1);
  t.regex(said[0] ?? '', /tcp 127\.0\.0\.2: no instance of this host is known there/);
});

test('the kernel looks after a connection over TCP on which nothing comes', async t => {
  const port = 10_000 + (process.pid % 10_000);
  await start(t, {
    unix: [],
    tcp: { host: '127.0.0.1', port, guests: [{ address: '127.0.0.1', instance: '/machine/a' }] },
  });
  const idle = createConnection({ host: '127.0.0.1', port }).resume();
  t.teardown(() => idle.destroy());
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  // Of ours: established, and its timer is the one of keepalive.
  const guarded = new RegExp(`: ${local} \\S+ 01 \\S+ 02:`);
  await until(() => guarded.test(readFileSync('/proc/net/tcp', 'utf8')));
  t.pass();
});

test('forged events reach nobody, and what is honest beside them goes on', async t => {
  const { gate, path, sink } = await start(t);
  const client = speak(t, `unix://${path}`, 'logs');
  for (const name of ['sculptor.recommendation', 'sculptor.heartbeat'] as const) {
    const result = await client.send(event(name));
    t.deepEqual(result, {
      kind: 'partial',
      rejected: 1,
      message: '1 events sculptor.*, which are not taken from a guest',
    });
  }
  const honest = Buffer.from(event('sculptor.topology'));
  honest.write('S0ulptor.topology', honest.indexOf('sculptor.topology'));
  t.is((await client.send(Buffer.concat([event('sculptor.heartbeat'), honest]))).kind, 'partial');
  t.deepEqual(
    sink.records.map(({ eventName }) => eventName),
    ['S0ulptor.topology'],
  );
  t.is(sink.records[0]?.resource['sculptor.origin'], 'guest');
  t.deepEqual(dropped(gate), { event_forbidden: 3 });
});

test('what the endpoint did not take is not acknowledged', async t => {
  const { gate, path, sink } = await start(t);
  const client = speak(t, `unix://${path}`);
  sink.sink.answer = { kind: 'unavailable', retryAfterSeconds: 7 };
  t.like(await client.send(forged), { kind: 'retry', afterSeconds: 7 });
  await sink.stop();
  t.like(await client.send(forged), { kind: 'retry', afterSeconds: 1 });
  t.deepEqual(dropped(gate), { request_endpoint_unavailable: 2 });
  t.is(gate.status().records, 0);
});

test('a guest hears that its request was refused, and nothing of who refused it', async t => {
  const { gate, path, sink } = await start(t);
  sink.sink.answer = { kind: 'invalid', message: 'secret.internal says no' };
  t.deepEqual(await speak(t, `unix://${path}`).send(forged), {
    kind: 'refused',
    reason: 'INVALID_ARGUMENT: the endpoint of the host refused it',
  });
  t.regex(gate.status().guests[0]?.lastFailure ?? '', /secret\.internal/);
  t.deepEqual(dropped(gate), { request_endpoint_refused: 1 });
});

test('what the endpoint rejects of a request is neither delivered nor acknowledged, and the next one is no failure', async t => {
  const { gate, path, sink } = await start(t);
  const client = speak(t, `unix://${path}`);
  const two = serialize(resourceMetrics({}, [counter('m', 1), counter('n', 2)]));
  sink.sink.answer = { kind: 'partial', rejected: 1, message: 'secret.internal' };
  t.deepEqual(await client.send(two), {
    kind: 'partial',
    rejected: 1,
    message: '1 records that the endpoint of the host rejected',
  });
  t.deepEqual(gate.status().dropped, { record_endpoint_rejected: 1 });
  t.is(gate.status().records, 1);
  sink.sink.answer = { kind: 'invalid', message: 'no' };
  await client.send(two);
  t.not(gate.status().guests[0]?.lastFailure, null);
  sink.sink.answer = { kind: 'ok' };
  t.deepEqual(await client.send(two), { kind: 'ok' });
  t.like(gate.status().guests[0], { lastFailure: null, records: 3 });
  sink.sink.answer = { kind: 'partial', rejected: 7, message: 'more than there were' };
  await client.send(two);
  t.is(gate.status().records, 3);
});

test('a log that tells of what is measured is a log', async t => {
  const { path, sink } = await start(t);
  const told = {
    eventName: 'sculptor.action',
    body: 'sculptor.vcpu.steal',
    attributes: {},
  } as const;
  const log = Buffer.from(eventEncoder('app', { 'host.id': 'x' })(told, 1));
  log.write('S0ulptor.action', log.indexOf(told.eventName));
  t.deepEqual(await speak(t, `unix://${path}`, 'logs').send(log), { kind: 'ok' });
  t.is(sink.records.length, 1);
});

test('only those users are let in who are allowed to, and others are counted', async t => {
  for (const [allowUsers, dropped] of [
    [['root'], { connection_refused_user: 1 }],
    [[12_345], {}],
  ] as const) {
    const path = join(socketFolder(t), 'guest.sock');
    const { gate } = await start(
      t,
      { unix: [{ path, instance: uuid, allowUsers }] },
      { native: { peerCredentials: () => ({ uid: 12_345 }) } as unknown as Native },
    );
    const { kind } = await speak(t, `unix://${path}`).send(forged);
    t.is(kind, allowUsers[0] === 'root' ? 'retry' : 'ok');
    t.deepEqual(Object.keys(gate.status().dropped), Object.keys(dropped));
  }
});

test('a user of one of its sockets whom nobody knows is named with that socket', async t => {
  const folder = socketFolder(t);
  const socket = (name: string, user: string) => ({
    path: join(folder, name),
    instance: uuid,
    allowUsers: [user],
  });
  await t.throwsAsync(start(t, { unix: [socket('a', 'root'), socket('b', 'no-such-user')] }), {
    code: 'CONFIG_INVALID',
    message: /^agent\.gate\.unix\[1\]\.allowUsers: wanted a user of .* got "no-such-user"$/,
  });
});

needs('ipv6')('a guest of IPv4 is known on a socket of IPv6', async t => {
  const port = 15_000 + (process.pid % 5_000);
  const tcp = { host: '::', port, guests: [{ address: '127.0.0.1', instance: '/machine/a' }] };
  const { sink } = await start(t, { unix: [], tcp });
  t.deepEqual(await speak(t, `http://127.0.0.1:${port}`).send(forged), { kind: 'ok' });
  t.is(sink.resources[0]?.resource['sculptor.instance.id'], '/machine/a');
});

test('where one of its sockets cannot be, the gate leaves none behind', async t => {
  const path = join(socketFolder(t), 'left.sock');
  const taken = await start(t);
  const unix = [path, join(taken.path, 'below')].map(each => ({ path: each, instance: uuid }));
  await t.throwsAsync(start(t, { unix }), { code: 'CONFIG_SOCKET' });
  t.false(existsSync(path));
});

test('what a guest says of its vCPUs is known of that guest alone', async t => {
  const other = join(socketFolder(t), 'other.sock');
  const first = join(socketFolder(t), 'first.sock');
  const { gate } = await start(t, {
    unix: [
      { path: first, instance: uuid },
      { path: other, instance: another },
    ],
  });
  t.is(gate.view(uuid), null);
  for (const [path, cpu] of [
    [first, 0],
    [other, 5],
  ] as const) {
    const waited = counter('sculptor.cpu.runqueue.wait', 1, { 'cpu.logical_number': cpu });
    await speak(t, `unix://${path}`).send(serialize(resourceMetrics({}, [waited])));
  }
  t.deepEqual([...(gate.view(uuid)?.keys() ?? [])], [0]);
  t.deepEqual([...(gate.view(another)?.keys() ?? [])], [5]);
});

test('what is not OTLP is refused with the offset', async t => {
  const { gate, path } = await start(t);
  const result = await speak(t, `unix://${path}`).send(Buffer.from([10, 200, 1]));
  t.like(result, { kind: 'refused' });
  t.regex('reason' in result ? result.reason : '', /^INVALID_ARGUMENT: OTLP_MALFORMED: byte 1:/);
  t.deepEqual(dropped(gate), { request_malformed: 1 });
});

test('a message that is too large is refused and counted', async t => {
  const { gate, path } = await start(t, { maxMessageBytes: 4096 });
  t.is((await speak(t, `unix://${path}`).send(Buffer.alloc(5000))).kind, 'refused');
  t.deepEqual(dropped(gate), { request_too_large: 1 });
});

test('too many points and too many resources are refused and counted', async t => {
  const { gate, path } = await start(t, { maxRecords: 2, maxResources: 2 });
  const client = speak(t, `unix://${path}`);
  const points = [1, 2, 3].map(value => counter('m', value));
  const few = serialize(resourceMetrics({}, []));
  t.is((await client.send(serialize(resourceMetrics({}, points)))).kind, 'refused');
  t.is((await client.send(Buffer.concat([few, few, few]))).kind, 'refused');
  t.deepEqual(dropped(gate), { request_too_many_records: 1, request_too_many_resources: 1 });
});

test('series that a guest makes up are left out beyond so many in ten minutes, and counted; those it had go on', async t => {
  const clock = steppedClock();
  const { gate, path, sink } = await start(t, { maxSeries: 100 }, { clock });
  const client = speak(t, `unix://${path}`);
  const made = (from: number) =>
    serialize(
      resourceMetrics(
        {},
        Array.from({ length: 100 }, (_, i) => counter('m', 1, { id: `${from + i}` })),
      ),
    );
  t.deepEqual(await client.send(made(0)), { kind: 'ok' });
  const { kind, ...rest } = await client.send(made(100));
  t.is(kind, 'partial');
  t.regex(
    `${'message' in rest && rest.message}`,
    /^\d+ records of more series than the gate takes/,
  );
  const left = dropped(gate).record_too_many_series ?? 0;
  t.true(left > 80, `${left}`);
  t.is(sink.resources.flatMap(({ points }) => points).length, 200 - left);
  t.deepEqual(await client.send(made(0)), { kind: 'ok' });
  clock.step(600);
  t.deepEqual(await client.send(made(100)), { kind: 'ok' });
});

test('series that are left out cost a guest what they would have cost', async t => {
  const clock = steppedClock();
  const { path } = await start(t, { maxSeries: 100, recordsPerSecond: 150 }, { clock });
  const client = speak(t, `unix://${path}`);
  const send = (from: number) =>
    client.send(
      serialize(
        resourceMetrics(
          {},
          Array.from({ length: 100 }, (_, i) => counter('m', 1, { id: `${from + i}` })),
        ),
      ),
    );
  t.is((await send(0)).kind, 'ok');
  t.is((await send(100)).kind, 'partial');
  t.is((await send(0)).kind, 'retry');
});

/** One point with so many attributes of nothing, two bytes each. */
const attributesOfNothing = (count: number) => {
  const point = Buffer.alloc(2 * count);
  for (let i = 0; i < point.length; i += 2) point[i] = 0x3a;
  let request: Uint8Array = point;
  for (const field of [1, 5, 2, 2, 1]) request = bytesField(field, request);
  return request;
};

test('what is nothing but attributes is refused where it is too much, and what it cost is waited for', async t => {
  const clock = steppedClock();
  const { gate, path } = await start(t, { maxCores: 0.01, maxRecords: 100_000 }, { clock });
  const client = speak(t, `unix://${path}`);
  t.is((await client.send(attributesOfNothing(800_001))).kind, 'refused');
  t.deepEqual(dropped(gate), { request_too_many_attributes: 1 });
  const result = await client.send(forged);
  t.is(result.kind, 'retry', 'it had read them up to the limit');
  clock.step(result.kind === 'retry' ? (result.afterSeconds ?? 0) + 0.001 : 0);
  t.deepEqual(await client.send(attributesOfNothing(100)), { kind: 'ok' });
});

test('what it takes to inflate what a guest sends is waited for, also where nobody will serve it', async t => {
  const clock = steppedClock();
  const bounds = { maxCores: 0.01, maxMessageBytes: 16_000_000, recordsPerSecond: 100_000 };
  const { gate, path } = await start(t, bounds, { clock });
  const session = connect('http://localhost', { createConnection: () => createConnection(path) });
  t.teardown(() => session.destroy());
  // Some 10 ms: threads are accounted for by ticks of the kernel.
  const large = bytesField(15, Buffer.alloc(12_000_000));
  /** No gzip at its end. */
  const bomb = gzipSync(large).subarray(0, -8);
  const fine = gzipSync(Buffer.concat([forged, large]));
  const send = async (body: Buffer) => {
    const prefix = Buffer.from([1, 0, 0, 0, 0]);
    prefix.writeUInt32BE(body.byteLength, 1);
    const stream = session.request({
      ':method': 'POST',
      ':path': exportMethod('metrics').path,
      'content-type': 'application/grpc',
      'grpc-encoding': 'gzip',
    });
    stream.end(Buffer.concat([prefix, body]));
    let said: { 'grpc-status'?: unknown; 'grpc-status-details-bin'?: unknown } = {};
    const take = (headers: typeof said) => {
      said = { ...said, ...headers };
    };
    stream.on('response', take).on('trailers', take).resume();
    await once(stream, 'close');
    const details = `${said['grpc-status-details-bin'] ?? ''}`;
    const wait = decodeRetryStatus(Buffer.from(details, 'base64'));
    return { status: Number(said['grpc-status']), wait: wait ?? 0 };
  };
  let sent = 0;
  while (sent < 10 && (await send(bomb)).status === grpcStatus.INTERNAL) sent += 1;
  t.true(sent < 10);
  const { status, wait } = await send(Buffer.from('this is no gzip'));
  t.is(status, grpcStatus.UNAVAILABLE, 'it is not even tried');
  t.deepEqual(dropped(gate), { request_over_rate: 2 });
  clock.step(wait + 1e-6);
  t.is((await send(fine)).status, grpcStatus.OK, 'whatever it took');
  t.is((await send(fine)).status, grpcStatus.UNAVAILABLE);
});

test('a guest that says too much is told how long to wait, and is heard again after it', async t => {
  const clock = steppedClock();
  const { gate, path } = await start(t, { recordsPerSecond: 10 }, { clock });
  const client = speak(t, `unix://${path}`);
  const much = serialize(
    resourceMetrics(
      {},
      Array.from({ length: 30 }, (_, i) => counter('m', i)),
    ),
  );
  t.deepEqual(await client.send(much), { kind: 'ok' });
  const result = await client.send(forged);
  t.is(result.kind, 'retry');
  const wait = result.kind === 'retry' ? (result.afterSeconds ?? 0) : 0;
  t.true(wait > 2 && wait < 2.5, `${wait}`);
  t.deepEqual(dropped(gate), { request_over_rate: 1 });
  clock.step(wait + 0.001);
  t.deepEqual(await client.send(forged), { kind: 'ok' });
});

test('requests with nothing in them are bounded as well', async t => {
  const clock = steppedClock();
  const { gate, path } = await start(t, {}, { clock });
  const client = speak(t, `unix://${path}`);
  for (let i = 0; i <= 100; i++) t.deepEqual(await client.send(Buffer.alloc(0)), { kind: 'ok' });
  t.is((await client.send(Buffer.alloc(0))).kind, 'retry');
  t.deepEqual(dropped(gate), { request_over_rate: 1 });
  clock.step(0.1);
  t.deepEqual(await client.send(forged), { kind: 'ok' });
});

test('a guest that heeds nothing is cut off, and let in again when it has made up for it', async t => {
  const clock = steppedClock();
  const { gate, path } = await start(t, {}, { clock });
  const client = speak(t, `unix://${path}`);
  const bad = Buffer.from([10, 200, 1]);
  const results = [];
  for (let i = 0; i < 51; i++) results.push(await client.send(bad));
  t.is(results.filter(({ kind }) => kind === 'refused').length, 50);
  t.is((await client.send(forged)).kind, 'retry');
  t.is(dropped(gate).request_malformed, 51);
  t.true((dropped(gate).connection_nuisance ?? 0) >= 2);
  clock.step(1);
  // The exporter dials again by itself, and says that it has no connection until then.
  let result = await client.send(forged);
  while (result.kind === 'retry') result = await client.send(forged);
  t.deepEqual(result, { kind: 'ok' });
});

/** Sends a request of another service, as often as it is called. */
function askForTraces(t: ExecutionContext, path: string) {
  const session = connect('http://localhost', { createConnection: () => createConnection(path) });
  t.teardown(() => session.destroy());
  const ask = async () => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
      'content-type': 'application/grpc',
    });
    stream.resume();
    stream.end();
    await once(stream, 'close');
  };
  return { session, ask };
}

/** Sends so many frames of 13 bytes that are of no request; what is sent has been read when it is answered. */
async function flood(t: ExecutionContext, path: string, frames: number) {
  const frame = (type: number, payload: Buffer) =>
    Buffer.concat([Buffer.from([0, 0, payload.length, type, 0, 0, 0, 0, 0]), payload]);
  const windowUpdate = frame(8, Buffer.from([0, 0, 0, 1]));
  const ping = Buffer.from('the last');
  const socket = createConnection(path);
  t.teardown(() => socket.destroy());
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(Buffer.concat([frame(4, Buffer.alloc(0)), ...Array(frames).fill(windowUpdate)]));
  socket.write(frame(6, ping));
  let answer = Buffer.alloc(0);
  socket.on('data', data => {
    answer = Buffer.concat([answer, data]);
  });
  await until(() => answer.includes(ping));
  return socket;
}

test('requests of which no handler hears, such as traces, are counted, and who goes on with them is cut off', async t => {
  const clock = steppedClock();
  const { gate, path } = await start(t, {}, { clock });
  const { session, ask } = askForTraces(t, path);
  await ask();
  clock.step(1);
  t.deepEqual(dropped(gate), { request_unserved: 1 });
  for (let i = 0; i < 100; i++) await ask();
  clock.step(1);
  t.deepEqual(dropped(gate), { request_unserved: 101, connection_nuisance: 1 });
  await once(session, 'close');
});

test('a guest that sends much of what is no request is cut off, over however many connections it did, until it has made up for it', async t => {
  const clock = steppedClock();
  // 204,800 bytes a second, and 300,000 besides.
  const bounds = { recordsPerSecond: 100, maxConnections: 1, maxMessageBytes: 100_000 };
  const { gate, path } = await start(t, bounds, { clock });
  const first = await flood(t, path, 30_000);
  first.end();
  await once(first, 'close');
  await until(() => gate.status().guests[0]?.connections === 0);
  const second = await flood(t, path, 30_000);
  t.deepEqual(dropped(gate), {});
  clock.step(1);
  await until(() => second.closed);
  const third = createConnection(path).resume();
  t.teardown(() => third.destroy());
  await until(() => third.closed);
  t.deepEqual(dropped(gate), { connection_nuisance: 2 });
  clock.step(1);
  t.deepEqual(await speak(t, `unix://${path}`).send(forged), { kind: 'ok' });
});

test('a connection that is cut off for two reasons at once counts once', async t => {
  const clock = steppedClock();
  // 204,800 bytes a second, and 600,000 besides.
  const bounds = { recordsPerSecond: 100, maxConnections: 2, maxMessageBytes: 100_000 };
  const { gate, path } = await start(t, bounds, { clock });
  const { session, ask } = askForTraces(t, path);
  for (let i = 0; i < 101; i++) await ask();
  await flood(t, path, 80_000);
  clock.step(1);
  t.deepEqual(dropped(gate), { request_unserved: 101, connection_nuisance: 2 });
  await once(session, 'close');
});

test('one guest has so many connections, and another as many of its own', async t => {
  const other = join(socketFolder(t), 'other.sock');
  const first = join(socketFolder(t), 'first.sock');
  const { gate } = await start(t, {
    maxConnections: 2,
    unix: [
      { path: first, instance: uuid },
      { path: other, instance: another },
    ],
  });
  const open = [first, first, other].map(path => createConnection(path).resume());
  t.teardown(() => {
    for (const socket of open) socket.destroy();
  });
  await until(() => gate.status().guests.reduce((sum, guest) => sum + guest.connections, 0) === 3);
  const third = createConnection(first).resume();
  await once(third, 'close');
  t.deepEqual(dropped(gate), { connection_too_many: 1 });
  open[0]?.destroy();
  await until(
    () => gate.status().guests.find(({ instance }) => instance.id === uuid)?.connections === 1,
  );
  t.deepEqual(await speak(t, `unix://${first}`).send(forged), { kind: 'ok' });
});

test('a guest that connects again and again is served so many times a second, and what is more is counted', async t => {
  const clock = steppedClock();
  const { gate, path } = await start(t, {}, { clock });
  const dial = async () => {
    const socket = createConnection(path);
    socket.end();
    await once(socket.resume(), 'close');
  };
  for (let i = 0; i < 30; i++) await dial();
  t.deepEqual(dropped(gate), { connection_nuisance: 9 });
  clock.step(1);
  t.deepEqual(await speak(t, `unix://${path}`).send(forged), { kind: 'ok' });
  t.deepEqual(dropped(gate), { connection_nuisance: 9 });
});

test('for a new guest the one that is gone is forgotten, and never one that is there', async t => {
  const paths = ['a', 'b', 'c'].map(name => join(socketFolder(t), `${name}.sock`));
  const { gate } = await start(t, {
    maxGuests: 2,
    unix: paths.map((path, i) => ({ path, instance: `/machine/${i}` })),
  });
  const there = createConnection(paths[0] ?? '').resume();
  t.teardown(() => there.destroy());
  const gone = createConnection(paths[1] ?? '').resume();
  await until(() => gate.status().guests.length === 2);
  const refused = createConnection(paths[2] ?? '').resume();
  await once(refused, 'close');
  t.deepEqual(dropped(gate), { connection_too_many_guests: 1 });
  gone.destroy();
  await until(() =>
    gate.status().guests.every(({ connections, via }) => connections > 0 || via.includes('b.sock')),
  );
  await until(() => gate.status().guests.some(({ connections }) => connections === 0));
  const next = createConnection(paths[2] ?? '').resume();
  t.teardown(() => next.destroy());
  await until(() => gate.status().guests.some(({ instance }) => instance.id === '/machine/2'));
  t.deepEqual(
    gate.status().guests.map(({ instance }) => instance.id),
    ['/machine/0', '/machine/2'],
  );
});

test('of those that are gone the one that came last is the last to be forgotten', async t => {
  const paths = ['a', 'b', 'c'].map(name => join(socketFolder(t), `${name}.sock`));
  const { gate } = await start(t, {
    maxGuests: 2,
    unix: paths.map((path, i) => ({ path, instance: `/machine/${i}` })),
  });
  const viaOf = (path = '') =>
    gate.status().guests.find(({ via, connections }) => via.endsWith(path) && connections > 0);
  for (const nth of [0, 1, 0]) {
    const socket = createConnection(paths[nth] ?? '').resume();
    await until(() => viaOf(paths[nth]) !== undefined);
    socket.destroy();
    await until(() => viaOf(paths[nth]) === undefined);
  }
  const next = createConnection(paths[2] ?? '').resume();
  t.teardown(() => next.destroy());
  await until(() => viaOf(paths[2]) !== undefined);
  t.deepEqual(
    gate.status().guests.map(({ instance }) => instance.id),
    ['/machine/0', '/machine/2'],
  );
});

test('guests that fill what may be on the way to a slow endpoint leave room for one that says little', async t => {
  const folder = socketFolder(t);
  const names = ['modest', ...Array.from({ length: 8 }, (_, i) => `greedy${i}`)];
  const paths = names.map(name => join(folder, `${name}.sock`));
  const arrived: string[] = [];
  const answers: (() => void)[] = [];
  const endpoint = await startOtlpServer({
    listen: join(folder, 'slow.sock'),
    ...{ allowUids: [], peerUid: ownUid, maxMessageBytes: 33_554_432, queueRequests: 64 },
    handlers: {
      metrics: async request => {
        for (const { resource } of decodeMetrics(request))
          arrived.push(`${resource['sculptor.instance.name']}`);
        await new Promise<void>(answer => answers.push(answer));
        return { kind: 'ok' };
      },
    },
  });
  t.teardown(() => endpoint.stop());
  const { gate } = await start(
    t,
    { unix: paths.map((path, i) => ({ path, instance: `/${names[i]}` })) },
    { endpoint: `unix://${join(folder, 'slow.sock')}` },
  );
  const clients = paths.map(path => speak(t, `unix://${path}`));
  /** Two at once: more of a guest do not wait. */
  const sayTwice = (nth: number, bytes: number) => {
    const said = serialize(resourceMetrics({}, [counter('m', 1, { text: 'x'.repeat(bytes) })]));
    return [0, 1].map(() => clients[nth]?.send(said));
  };
  let refused = 0;
  const greedy = names.slice(1).flatMap((_, i) => sayTwice(i + 1, 4_193_000));
  for (const result of greedy)
    void result?.then(({ kind } = { kind: 'ok' }) => kind === 'retry' && refused++);
  await until(() => arrived.length + refused === greedy.length);
  const modest = sayTwice(0, 20_000);
  await until(() => arrived.filter(name => name === 'modest').length === 2);
  for (const answer of answers) answer();
  t.deepEqual(await Promise.all(modest), [{ kind: 'ok' }, { kind: 'ok' }]);
  t.true(refused > 0);
  t.deepEqual(dropped(gate), { request_over_share: refused });
});

test('it tells its counts as metrics of the agent, reasons that never happened as 0', async t => {
  const { gate, path } = await start(t);
  await speak(t, `unix://${path}`).send(forged);
  t.deepEqual(
    gate
      .samples(5)
      .map(({ metric, attributes, value }) => [metric, attributes?.['sculptor.reason'], value]),
    [
      ['sculptor.gate.records', undefined, 1],
      ['sculptor.gate.dropped', 'event_forbidden', 0],
      ['sculptor.gate.dropped', 'connection_unknown', 0],
    ],
  );
});

test('it stops with connections open, and its sockets and timers are gone', async t => {
  let timers = 0;
  const clock: Clock = {
    ...realTime,
    every: (seconds, run) => {
      timers += 1;
      const cancel = realTime.every(seconds, run);
      return () => {
        timers -= 1;
        cancel();
      };
    },
  };
  const { gate, path } = await start(t, {}, { clock });
  t.is(timers, 1);
  const idle = createConnection(path).resume();
  await until(() => gate.status().guests.length === 1);
  await gate.stop();
  t.is(timers, 0);
  if (!idle.destroyed) await once(idle, 'close');
  await t.throwsAsync(once(createConnection(path), 'connect'), { code: 'ENOENT' });
});
