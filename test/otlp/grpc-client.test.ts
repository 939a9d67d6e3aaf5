import { once } from 'node:events';
import {
  createSecureServer,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { createGrpcClient, type GrpcClientOptions } from '../../src/otlp/grpc-client.ts';
import { grpcStatus } from '../../src/otlp/grpc-status.ts';
import { socketFolder } from '../support/sockets.ts';
import { localhostCertificate, localhostKey } from './localhost-tls.ts';

type Answer = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, body: Buffer) => void;

/** One that answers whole requests; `sessions`: of the connections that were made. */
function serve(t: ExecutionContext, server: Http2Server, answer: Answer) {
  const sessions: ServerHttp2Session[] = [];
  server.on('session', session => {
    sessions.push(session);
    session.on('error', () => undefined);
  });
  server.on('stream', (stream, headers) => {
    const parts: Buffer[] = [];
    stream.on('error', () => undefined);
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('end', () => answer(stream, headers, Buffer.concat(parts)));
  });
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return sessions;
}

async function start(
  t: ExecutionContext,
  answer: Answer,
  options: Partial<GrpcClientOptions> = {},
) {
  const path = join(socketFolder(t), 'grpc.sock');
  const server = createServer();
  const sessions = serve(t, server, answer);
  server.listen(path);
  await once(server, 'listening');
  const client = createGrpcClient({ endpoint: `unix://${path}`, timeoutSeconds: 5, ...options });
  t.teardown(client.close);
  return { client, sessions, server, path };
}

const frame = (message: Buffer, flag = 0): Buffer =>
  Buffer.concat([Buffer.from([flag, 0, 0, 0, message.length]), message]);

function respond(stream: ServerHttp2Stream, body: Buffer, trailers: Record<string, string>): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  stream.end(body);
}

const fine: Answer = (stream, _, body) =>
  respond(stream, frame(body.subarray(5, 8)), { 'grpc-status': '0' });

test('a message goes out framed, and the answer comes back', async t => {
  let got: { headers: IncomingHttpHeaders; body: Buffer } | null = null;
  const { client } = await start(t, (stream, headers, body) => {
    got = { headers, body };
    fine(stream, headers, body);
  });
  const answer = await client.call('/a.B/C', Buffer.from('abcdef'));
  t.deepEqual(answer, {
    status: 0,
    reason: '',
    message: Buffer.from('abc'),
    details: null,
  });
  const { headers, body } = got as unknown as { headers: IncomingHttpHeaders; body: Buffer };
  t.is(headers[':path'], '/a.B/C');
  t.is(headers['content-type'], 'application/grpc');
  t.is(headers['te'], 'trailers');
  t.is(headers['grpc-timeout'], '5000m');
  t.deepEqual(body, frame(Buffer.from('abcdef')));
});

test('a message past every window of flow control arrives whole', async t => {
  let bytes = 0;
  const { client } = await start(t, (stream, headers, body) => {
    bytes = body.length;
    fine(stream, headers, body);
  });
  t.is((await client.call('/a', Buffer.alloc(3_000_000, 7))).status, 0);
  t.is(bytes, 3_000_005);
});

test('calls share a connection, also those that are made at once', async t => {
  const { client, sessions } = await start(t, fine);
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => client.call('/a', Buffer.from('abc'))),
  );
  t.true(answers.every(({ status }) => status === 0));
  await client.call('/a', Buffer.from('abc'));
  t.is(sessions.length, 1);
});

test('a refusal is told with its words and its details, with a body or without', async t => {
  const trailers = {
    'grpc-status': '8',
    'grpc-message': 'voll%20%C3%BCber',
    'grpc-status-details-bin': Buffer.from([1, 2, 255]).toString('base64').replace(/=+$/, ''),
  };
  const refused = {
    status: grpcStatus.RESOURCE_EXHAUSTED,
    reason: 'voll über',
    message: Buffer.alloc(0),
    details: Buffer.from([1, 2, 255]),
  };
  const late = await start(t, stream => respond(stream, Buffer.alloc(0), trailers));
  t.deepEqual(await late.client.call('/a', Buffer.alloc(0)), refused);
  const atOnce = await start(t, stream =>
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', ...trailers },
      {
        endStream: true,
      },
    ),
  );
  t.deepEqual(await atOnce.client.call('/a', Buffer.alloc(0)), refused);
});

test('a reason that is not percent-encoded is shown as it is', async t => {
  const { client } = await start(t, stream =>
    respond(stream, Buffer.alloc(0), { 'grpc-status': '13', 'grpc-message': '100% broken' }),
  );
  t.is((await client.call('/a', Buffer.alloc(0))).reason, '100% broken');
});

for (const [http, status] of [
  [400, 'INTERNAL'],
  [401, 'UNAUTHENTICATED'],
  [403, 'PERMISSION_DENIED'],
  [404, 'UNIMPLEMENTED'],
  [418, 'UNKNOWN'],
  [429, 'UNAVAILABLE'],
  [502, 'UNAVAILABLE'],
  [503, 'UNAVAILABLE'],
  [504, 'UNAVAILABLE'],
] as const)
  test(`HTTP status ${http}, as proxies answer, is ${status}`, async t => {
    const { client } = await start(t, stream => {
      stream.respond({ ':status': http });
      stream.end('no such thing');
    });
    const answer = await client.call('/a', Buffer.alloc(0));
    t.is(answer.status, grpcStatus[status]);
    t.is(answer.reason, `HTTP status ${http}`);
  });

test('an answer of another kind is no success', async t => {
  const bodies = [
    Buffer.alloc(0),
    Buffer.from('ab'),
    frame(Buffer.from('zipped'), 1),
    Buffer.concat([frame(Buffer.from('one')), frame(Buffer.from('two'))]),
    frame(Buffer.from('cut')).subarray(0, 7),
  ];
  let nth = 0;
  const { client } = await start(t, stream =>
    respond(stream, bodies[nth++] ?? Buffer.alloc(0), { 'grpc-status': '0' }),
  );
  for (const _ of bodies)
    t.is((await client.call('/a', Buffer.alloc(0))).status, grpcStatus.INTERNAL);
  const silent = await start(t, stream => {
    stream.respond({ ':status': 200 });
    stream.end();
  });
  t.is((await silent.client.call('/a', Buffer.alloc(0))).status, grpcStatus.UNKNOWN);
});

test('an answer without an end is cut off', async t => {
  const { client } = await start(t, stream => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    const more = (): void => {
      if (!stream.destroyed) stream.write(Buffer.alloc(65_536), more);
    };
    more();
  });
  const answer = await client.call('/a', Buffer.alloc(0));
  t.is(answer.status, grpcStatus.RESOURCE_EXHAUSTED);
  t.regex(answer.reason, /over 4194304 bytes/);
});

test('a stream that is reset is told by its code', async t => {
  const codes = [7, 8, 11, 12, 2];
  let nth = 0;
  const { client } = await start(t, stream => stream.close(codes[nth++]));
  const got: number[] = [];
  for (const _ of codes) got.push((await client.call('/a', Buffer.alloc(0))).status);
  t.deepEqual(got, [
    grpcStatus.UNAVAILABLE,
    grpcStatus.CANCELLED,
    grpcStatus.RESOURCE_EXHAUSTED,
    grpcStatus.PERMISSION_DENIED,
    grpcStatus.INTERNAL,
  ]);
});

test('a call that nobody answers ends at its time, and the next has a connection of its own', async t => {
  let answers = false;
  const { client, sessions } = await start(
    t,
    (stream, headers, body) => {
      if (answers) fine(stream, headers, body);
    },
    { timeoutSeconds: 0.5 },
  );
  const began = performance.now();
  const answer = await client.call('/a', Buffer.from('abc'));
  t.is(answer.status, grpcStatus.DEADLINE_EXCEEDED);
  t.is(answer.reason, 'no answer within 0.5 s');
  t.true(performance.now() - began < 5000);
  answers = true;
  t.is((await client.call('/a', Buffer.from('abc'))).status, 0);
  t.is(sessions.length, 2);
});

test('a call that nobody answers costs no other where others are answered', async t => {
  const slow = Promise.withResolvers<() => void>();
  const { client, sessions } = await start(
    t,
    (stream, headers, body) => {
      const answer = () => fine(stream, headers, body);
      if (headers[':path'] === '/quick') answer();
      else if (headers[':path'] === '/slow') slow.resolve(answer);
    },
    { timeoutSeconds: 0.5 },
  );
  const message = Buffer.from('abc');
  const [silent, late] = [client.call('/silent', message), client.call('/slow', message, 60)];
  t.is((await client.call('/quick', message)).status, 0);
  t.is((await silent).status, grpcStatus.DEADLINE_EXCEEDED);
  (await slow.promise)();
  t.is((await late).status, 0);
  t.is(sessions.length, 1);
});

test('an answer may take longer than a connection, where it is given the time', async t => {
  const { client } = await start(
    t,
    (stream, headers, body) => setTimeout(() => fine(stream, headers, body), 500),
    { timeoutSeconds: 0.1 },
  );
  t.is((await client.call('/a', Buffer.from('abc'), 60)).status, 0);
});

test('a connection that is not made in its time is UNAVAILABLE, however long an answer may take', async t => {
  // It takes connections, and never says the first word of TLS.
  const silent = createTcpServer();
  silent.listen(0, 'localhost');
  await once(silent, 'listening');
  t.teardown(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const client = createGrpcClient({ endpoint: `https://localhost:${port}`, timeoutSeconds: 0.3 });
  t.teardown(client.close);
  const answer = await client.call('/a', Buffer.alloc(0), 60);
  t.is(answer.status, grpcStatus.UNAVAILABLE);
  t.is(answer.reason, 'no connection within 0.3 s');
});

test('nobody there is UNAVAILABLE, and who comes later is found by the next call', async t => {
  const path = join(socketFolder(t), 'late.sock');
  const client = createGrpcClient({ endpoint: `unix://${path}`, timeoutSeconds: 5 });
  t.teardown(client.close);
  const answer = await client.call('/a', Buffer.alloc(0));
  t.is(answer.status, grpcStatus.UNAVAILABLE);
  t.regex(answer.reason, /ENOENT.*late\.sock/);
  const server = createServer();
  serve(t, server, fine);
  server.listen(path);
  await once(server, 'listening');
  t.is((await client.call('/a', Buffer.from('abc'))).status, 0);
});

test('an endpoint that is no URL is an answer, and throws nothing', async t => {
  const client = createGrpcClient({ endpoint: 'http://collector:431700', timeoutSeconds: 5 });
  const answer = await client.call('/a', Buffer.alloc(0));
  t.is(answer.status, grpcStatus.UNAVAILABLE);
  t.regex(answer.reason, /Invalid URL/);
  client.close();
});

test('a connection that ends, with a word or without, costs the call under way alone', async t => {
  for (const end of [
    (session: ServerHttp2Session) => session.destroy(),
    (session: ServerHttp2Session) => session.goaway(11),
    (session: ServerHttp2Session) => session.socket.destroy(),
  ]) {
    let ends = true;
    const { client, sessions } = await start(t, (stream, headers, body) => {
      if (!ends || !stream.session) fine(stream, headers, body);
      else end(stream.session as ServerHttp2Session);
    });
    const answer = await client.call('/a', Buffer.from('abc'));
    t.not(answer.status, grpcStatus.OK);
    ends = false;
    t.is((await client.call('/a', Buffer.from('abc'))).status, 0);
    t.is(sessions.length, 2);
  }
});

test('a server that says goodbye between two calls costs none', async t => {
  const { client, sessions } = await start(t, fine);
  t.is((await client.call('/a', Buffer.from('abc'))).status, 0);
  sessions[0]?.close();
  await sleep(50);
  t.is((await client.call('/a', Buffer.from('abc'))).status, 0);
  t.is(sessions.length, 2);
});

test('what is under way ends after close', async t => {
  const arrived = Promise.withResolvers<void>();
  const { client } = await start(t, (stream, headers, body) => {
    arrived.resolve();
    setTimeout(() => fine(stream, headers, body), 50);
  });
  const answer = client.call('/a', Buffer.from('abc'));
  await arrived.promise;
  client.close();
  t.is((await answer).status, 0);
});

test('what is under way at close has the time of a connection yet, however long its answer may take', async t => {
  const arrived = Promise.withResolvers<void>();
  const { client } = await start(t, () => arrived.resolve(), { timeoutSeconds: 0.3 });
  const answer = client.call('/a', Buffer.from('abc'), 60);
  await arrived.promise;
  const closed = performance.now();
  client.close();
  t.not((await answer).status, grpcStatus.OK);
  t.true(performance.now() - closed < 10_000);
});

test('TLS: a certificate that is trusted is taken, another one is not', async t => {
  const server = createSecureServer({ key: localhostKey, cert: localhostCertificate });
  serve(t, server, fine);
  server.listen(0, 'localhost');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const endpoint = `https://localhost:${port}`;
  const stranger = createGrpcClient({ endpoint, timeoutSeconds: 5 });
  t.teardown(stranger.close);
  const refused = await stranger.call('/a', Buffer.from('abc'));
  t.is(refused.status, grpcStatus.UNAVAILABLE);
  t.regex(refused.reason, /self-signed certificate/);
  setDefaultCACertificates([...getCACertificates('default'), localhostCertificate]);
  const client = createGrpcClient({ endpoint, timeoutSeconds: 5 });
  t.teardown(client.close);
  t.is((await client.call('/a', Buffer.from('abc'))).status, 0);
});
