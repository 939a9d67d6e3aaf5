import { once } from 'node:events';
import { existsSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { deflateSync, gzipSync } from 'node:zlib';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { ConfigError, ProtocolError } from '../../src/contract/errors.ts';
import { loadNative } from '../../src/linux/native.ts';
import { createExportClient, type SendResult } from '../../src/otlp/export-client.ts';
import { type OtlpServerOptions, type Outcome, startOtlpServer } from '../../src/otlp/server.ts';
import { exportMethod } from '../../src/otlp/services.ts';
import { needs } from '../support/needs.ts';
import { ownUid, socketFolder, until } from '../support/sockets.ts';

const ok: Outcome = { kind: 'ok' };

async function start(t: ExecutionContext, options: Partial<OtlpServerOptions> = {}) {
  const listen = join(socketFolder(t), 'otlp.sock');
  const server = await startOtlpServer({
    listen,
    allowUids: [],
    maxMessageBytes: 1_000_000,
    queueRequests: 4,
    peerUid: ownUid,
    handlers: { metrics: async () => ok, logs: async () => ok },
    ...options,
  });
  t.teardown(() => server.stop());
  const client = createExportClient({
    endpoint: `unix://${listen}`,
    signal: 'metrics',
    timeoutSeconds: 5,
  });
  t.teardown(() => client.close());
  return { server, client, listen };
}

/** One call with options of the channel, for what the export client never does. */
function call(
  t: ExecutionContext,
  listen: string,
  channel: object,
  request: Buffer,
): Promise<ServiceError | null> {
  const client = new Client(`unix://${listen}`, credentials.createInsecure(), channel);
  t.teardown(() => client.close());
  const method = exportMethod('metrics');
  return new Promise(resolve => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      new Metadata(),
      error => resolve(error),
    );
  });
}

test('a request arrives as the bytes that were sent', async t => {
  const got: Buffer[] = [];
  const { client, server } = await start(t, {
    handlers: {
      metrics: async request => {
        got.push(request);
        return ok;
      },
    },
  });
  t.deepEqual(await client.send(Buffer.from('abc')), { kind: 'ok' });
  t.deepEqual(got, [Buffer.from('abc')]);
  t.deepEqual(server.counters(), { 'requests.metrics': 1 });
});

test('gzip, as collectors send by default, is taken', async t => {
  const got: Buffer[] = [];
  const { listen } = await start(t, {
    handlers: {
      metrics: async request => {
        got.push(request);
        return ok;
      },
    },
  });
  const request = Buffer.alloc(100_000, 'x');
  t.is(await call(t, listen, { 'grpc.default_compression_algorithm': 2 }, request), null);
  t.deepEqual(got, [request]);
});

const tooLarge = test.macro(async (t, channel: object) => {
  const { listen, server } = await start(t, {
    handlers: { metrics: async () => t.fail('it was handed over') as never },
  });
  const error = await call(t, listen, channel, Buffer.alloc(64 * 1024 * 1024));
  t.is(error?.code, status.RESOURCE_EXHAUSTED);
  t.deepEqual(server.counters(), { 'refused.too-large': 1 });
});
test('a message of 64 MB is refused and counted', tooLarge, {});
test('a message that is 64 MB only when inflated is refused and counted', tooLarge, {
  'grpc.default_compression_algorithm': 2,
});

test('a user that is not on the list is cut off and counted', async t => {
  const { client, server } = await start(t, { peerUid: () => 4711 });
  const result = await client.send(Buffer.from('x'));
  t.is(result.kind, 'retry');
  t.true((server.counters()['refused.peer'] ?? 0) >= 1);
  t.is(server.counters()['requests.metrics'], undefined);
});

test('a user on the list is served', async t => {
  const { client } = await start(t, { peerUid: () => 4711, allowUids: [4711] });
  t.deepEqual(await client.send(Buffer.from('x')), ok);
});

test('a peer whose user cannot be told is cut off and counted', async t => {
  const { client, server } = await start(t, {
    peerUid: () => {
      throw new Error('ENOTCONN');
    },
  });
  t.is((await client.send(Buffer.from('x'))).kind, 'retry');
  t.true((server.counters()['refused.peer-unknown'] ?? 0) >= 1);
});

test('a full queue answers UNAVAILABLE with the delay after which to come again', async t => {
  const release: (() => void)[] = [];
  const { client, server } = await start(t, {
    queueRequests: 2,
    handlers: { metrics: () => new Promise(resolve => release.push(() => resolve(ok))) },
  });
  const first = [client.send(Buffer.from('1')), client.send(Buffer.from('2'))];
  await until(() => release.length === 2);
  t.deepEqual(await client.send(Buffer.from('3')), {
    kind: 'retry',
    afterSeconds: 0.5,
    reason: 'UNAVAILABLE: the queue is full',
  });
  for (const done of release) done();
  t.deepEqual(await Promise.all(first), [ok, ok]);
  t.deepEqual(server.counters(), { 'requests.metrics': 2, 'refused.queue-full': 1 });
});

test('the bytes that wait are bounded too', async t => {
  const release: (() => void)[] = [];
  const { client, server } = await start(t, {
    queueRequests: 100,
    maxMessageBytes: 10_000,
    handlers: { metrics: () => new Promise(resolve => release.push(() => resolve(ok))) },
  });
  const sent = Array.from({ length: 5 }, () => client.send(Buffer.alloc(9_000)));
  await until(() => release.length === 4 && (server.counters()['refused.queue-full'] ?? 0) === 1);
  for (const done of release) done();
  t.deepEqual((await Promise.all(sent)).filter(({ kind }) => kind === 'ok').length, 4);
});

const answered = test.macro(async (t, handler: () => Promise<Outcome>, wanted: SendResult) => {
  const { client } = await start(t, { handlers: { metrics: handler } });
  t.deepEqual(await client.send(Buffer.from('x')), wanted);
});
test(
  'bad records are a partial success that names them',
  answered,
  async () => ({ kind: 'partial', rejected: 3, message: 'no instance id' }),
  { kind: 'partial', rejected: 3, message: 'no instance id' },
);
test(
  'what is not OTLP is INVALID_ARGUMENT',
  answered,
  async () => ({ kind: 'invalid', message: 'byte 3' }),
  { kind: 'refused', reason: 'INVALID_ARGUMENT: byte 3' },
);
test(
  'a handler that throws a ProtocolError answers INVALID_ARGUMENT',
  answered,
  async () => {
    throw new ProtocolError('OTLP_MALFORMED', 'byte 3: wanted a tag');
  },
  { kind: 'refused', reason: 'INVALID_ARGUMENT: OTLP_MALFORMED: byte 3: wanted a tag' },
);
test(
  'a handler that fails answers INTERNAL and the server goes on',
  answered,
  async () => {
    throw new Error('bug');
  },
  { kind: 'refused', reason: 'INTERNAL: bug' },
);
test(
  'what a handler says of half a character is answered as well',
  answered,
  async () => {
    throw new Error('got \ud83d');
  },
  { kind: 'refused', reason: 'INTERNAL: got \ufffd' },
);
test(
  'a handler may ask to come again later',
  answered,
  async () => ({ kind: 'unavailable', retryAfterSeconds: 2.25 }),
  { kind: 'retry', afterSeconds: 2.25, reason: 'UNAVAILABLE: not now' },
);

test('a signal without a handler is refused', async t => {
  const { client } = await start(t, { handlers: {} });
  const result = await client.send(Buffer.from('x'));
  t.is(result.kind, 'refused');
});

/** One call over plain HTTP/2, resolved when it is over. */
async function callRaw(session: ClientHttp2Session, path: string, body: Buffer, headers = {}) {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    ...headers,
  });
  stream.resume();
  stream.end(body);
  await once(stream, 'close');
}

test('what no handler hears of is counted too, each once', async t => {
  const { server, client, listen } = await start(t);
  const session = connect('http://localhost', { createConnection: () => createConnection(listen) });
  t.teardown(() => session.destroy());
  const { path } = exportMethod('metrics');
  const one = Buffer.from('x');
  await callRaw(
    session,
    '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
    framed(0, one),
  );
  await callRaw(session, path, framed(0, one), { 'content-type': 'text/plain' });
  await callRaw(session, path, framed(1, one), { 'grpc-encoding': 'gzip' });
  await callRaw(session, path, framed(1, one), { 'grpc-encoding': 'another' });
  await callRaw(session, path, Buffer.from([0, 0]));
  t.deepEqual(await client.send(Buffer.from('x')), ok);
  await until(() => server.counters()['refused.unserved'] === 5);
  t.deepEqual(server.counters(), { 'requests.metrics': 1, 'refused.unserved': 5 });
});

/** A message as gRPC frames it. */
function framed(compressed: 0 | 1, message: Buffer): Buffer {
  const prefix = Buffer.from([compressed, 0, 0, 0, 0]);
  prefix.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([prefix, message]);
}

test('who inflates may refuse to, before he has, and each call that is refused so counts once', async t => {
  const got: Buffer[] = [];
  let [isRefused, refused] = [false, 0];
  const { server, client, listen } = await start(t, {
    handlers: {
      metrics: async request => {
        got.push(request);
        return ok;
      },
    },
    inflate: run => {
      if (!isRefused) return run();
      refused += 1;
      return { kind: 'unavailable', retryAfterSeconds: 3 };
    },
  });
  const session = connect('http://localhost', { createConnection: () => createConnection(listen) });
  t.teardown(() => session.destroy());
  const { path } = exportMethod('metrics');
  const text = Buffer.from('abc');
  const send = (encoding: string, ...messages: Buffer[]) =>
    callRaw(session, path, Buffer.concat(messages.map(message => framed(1, message))), {
      'grpc-encoding': encoding,
    });
  await send('gzip', gzipSync(text));
  await send('deflate', deflateSync(text));
  await send('gzip', gzipSync(Buffer.alloc(1_000_001)), gzipSync(Buffer.alloc(1_000_001)));
  await send('gzip', text);
  await send('another', text);
  isRefused = true;
  await send('gzip', text, text);
  t.deepEqual(await client.send(text), ok, 'nothing is to be inflated of it');
  t.deepEqual(got, [text, text, text]);
  t.is(refused, 1);
  await until(() => server.counters()['refused.unserved'] === 2);
  t.deepEqual(server.counters(), {
    'requests.metrics': 3,
    'refused.too-large': 1,
    'refused.unserved': 2,
    'refused.unavailable': 1,
  });
});

test('a call with several messages that are too large counts once', async t => {
  const { server, client, listen } = await start(t);
  const session = connect('http://localhost', { createConnection: () => createConnection(listen) });
  t.teardown(() => session.destroy());
  const bomb = framed(1, gzipSync(Buffer.alloc(1_000_001)));
  const { path } = exportMethod('metrics');
  await callRaw(session, path, Buffer.concat([bomb, bomb]), { 'grpc-encoding': 'gzip' });
  await callRaw(session, '/another.service/Export', framed(0, Buffer.alloc(0)));
  t.deepEqual(await client.send(Buffer.from('x')), ok);
  await until(() => server.counters()['refused.unserved'] === 1);
  t.is(server.counters()['refused.too-large'], 1);
});

needs('addon')('the kernel itself tells the user of a peer', async t => {
  const native = loadNative();
  const uids: number[] = [];
  const { client } = await start(t, {
    peerUid: fd => {
      const { uid } = native.peerCredentials(fd);
      uids.push(uid);
      return uid;
    },
  });
  t.deepEqual(await client.send(Buffer.from('x')), ok);
  t.deepEqual(uids, [ownUid()]);
});

test('the socket is for its owner and group only', async t => {
  const { listen } = await start(t);
  t.is(statSync(listen).mode & 0o777, 0o660);
});

test('a socket file that nobody listens on is replaced', async t => {
  const { listen, server } = await start(t);
  await server.stop();
  const dead = createServer().listen(`${listen}.tmp`);
  await once(dead, 'listening');
  renameSync(`${listen}.tmp`, listen);
  dead.close();
  await once(dead, 'close');
  t.true(existsSync(listen));
  const again = await startOtlpServer({
    listen,
    allowUids: [],
    maxMessageBytes: 1e6,
    queueRequests: 1,
    peerUid: ownUid,
    handlers: {},
  });
  await again.stop();
  t.false(existsSync(listen));
});

test('a socket that a running part has is a ConfigError that names it', async t => {
  const { listen } = await start(t);
  const options = {
    listen,
    allowUids: [],
    maxMessageBytes: 1e6,
    queueRequests: 1,
    peerUid: ownUid,
    handlers: {},
  };
  const error = await t.throwsAsync(() => startOtlpServer(options), { instanceOf: ConfigError });
  t.is(error?.code, 'CONFIG_SOCKET');
  t.true(error?.message.includes(listen));
});

test('a file that is no socket is left alone', async t => {
  const listen = join(socketFolder(t), 'file');
  writeFileSync(listen, 'mine');
  const options = {
    listen,
    allowUids: [],
    maxMessageBytes: 1e6,
    queueRequests: 1,
    peerUid: ownUid,
    handlers: {},
  };
  await t.throwsAsync(() => startOtlpServer(options), {
    instanceOf: ConfigError,
    message: /another file/,
  });
  t.true(existsSync(listen));
});

test('it stops at once with calls and connections open, and its socket is gone', async t => {
  const { client, server, listen } = await start(t, {
    handlers: { metrics: () => new Promise<Outcome>(() => undefined) },
  });
  const idle = createConnection(listen).resume();
  await once(idle, 'connect');
  const open = client.send(Buffer.from('x'));
  await until(() => server.counters()['requests.metrics'] === 1);
  const began = performance.now();
  await server.stop();
  t.true(performance.now() - began < 1000);
  t.false(existsSync(listen));
  t.is((await open).kind, 'retry');
  if (!idle.destroyed) await once(idle, 'close');
  t.pass();
});

test('bytes that are not HTTP/2 end that connection, not the server', async t => {
  const { client, listen } = await start(t);
  const socket = createConnection(listen).resume();
  socket.on('error', () => undefined);
  socket.write(Buffer.alloc(10_000, 'garbage'));
  await once(socket, 'close');
  t.deepEqual(await client.send(Buffer.from('x')), ok);
});
