import { once } from 'node:events';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { join } from 'node:path';
import test from 'ava';
import { createExportClient } from '../../src/otlp/export-client.ts';
import { grpcStatus } from '../../src/otlp/grpc-status.ts';
import { createPatience } from '../../src/otlp/patience.ts';
import { socketFolder } from '../support/sockets.ts';

test('each answer that does not come in time gives the next twice as long, up to a minute', t => {
  const patience = createPatience(5);
  const told = [5, 10, 20, 40, 60, 60].map(seconds => {
    t.is(patience.seconds(), seconds);
    patience.learn(grpcStatus.DEADLINE_EXCEEDED, seconds);
    return seconds;
  });
  t.is(told.length, 6);
});

test('who answers late each time keeps its time', t => {
  const patience = createPatience(5);
  patience.learn(grpcStatus.DEADLINE_EXCEEDED, 5);
  for (let i = 0; i < 200; i += 1) patience.learn(grpcStatus.OK, 8);
  t.is(patience.seconds(), 16);
});

test('one large request that is late among ten small ones that are not keeps its time', t => {
  const patience = createPatience(5);
  patience.learn(grpcStatus.DEADLINE_EXCEEDED, 5);
  for (let i = 0; i < 200; i += 1) {
    t.true(patience.seconds() > 8);
    patience.learn(grpcStatus.OK, i % 10 === 0 ? 8 : 0.01);
  }
});

test('who is quick again has the shortest time again', t => {
  const patience = createPatience(5);
  for (const took of [5, 10, 20, 40]) patience.learn(grpcStatus.DEADLINE_EXCEEDED, took);
  for (let i = 0; i < 500; i += 1) patience.learn(grpcStatus.OK, 0.01);
  t.is(patience.seconds(), 5);
});

test('a refusal, or a connection that ends, says nothing of how long an answer takes', t => {
  const patience = createPatience(5);
  patience.learn(grpcStatus.DEADLINE_EXCEEDED, 5);
  patience.learn(grpcStatus.UNAVAILABLE, 0.001);
  patience.learn(grpcStatus.UNAVAILABLE, 30);
  t.is(patience.seconds(), 10);
});

test('a receiver that is slower than the shortest time gets requests, after some that were given up', async t => {
  const path = join(socketFolder(t), 'slow.sock');
  const server = createServer();
  const given: string[] = [];
  const answer = (stream: ServerHttp2Stream): void => {
    if (stream.destroyed) return;
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.alloc(5));
  };
  server.on('stream', (stream, headers) => {
    given.push(String(headers['grpc-timeout']));
    stream.on('error', () => undefined);
    stream.resume();
    setTimeout(() => answer(stream), 1000);
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  const client = createExportClient({
    endpoint: `unix://${path}`,
    signal: 'metrics',
    timeoutSeconds: 0.2,
  });
  t.teardown(client.close);
  const ends = [];
  for (let i = 0; i < 6; i += 1) ends.push((await client.send(Buffer.alloc(1))).kind);
  t.is(ends[0], 'retry');
  t.is(given[0], '200m');
  const first = ends.indexOf('ok');
  t.true(first > 0, `none arrived: ${ends}; ${given}`);
  t.true(
    ends.slice(first).every(end => end === 'ok'),
    `lost again: ${ends}; ${given}`,
  );
});
