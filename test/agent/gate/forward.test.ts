import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { createForward } from '../../../src/agent/gate/forward.ts';
import { createReceiver } from '../../../src/otlp/server.ts';
import { socketFolder, until } from '../../support/sockets.ts';

const bounds = { maxGuests: 256, maxMessageBytes: 4_194_304 };

test('what has had its answer makes room for others, be that answer that nobody is there', async t => {
  const endpoint = `unix://${join(socketFolder(t), 'nobody.sock')}`;
  const forward = createForward({ ...bounds, endpoint });
  t.teardown(forward.close);
  const send = forward.open();
  const sendAtOnce = async (count: number) => {
    const request = Buffer.alloc(bounds.maxMessageBytes);
    const sent = Array.from({ length: count }, () => send('metrics', request));
    return (await Promise.all(sent)).map(({ kind }) => kind);
  };
  const retries = Array(4).fill('retry');
  t.deepEqual(await sendAtOnce(5), [...retries, 'over-share']);
  t.deepEqual(await sendAtOnce(4), retries);
});

test('the largest message finds room where nothing else is on the way, also grown', async t => {
  const endpoint = `unix://${join(socketFolder(t), 'nobody.sock')}`;
  const maxMessageBytes = 67_108_864;
  const forward = createForward({ ...bounds, maxMessageBytes, endpoint });
  t.teardown(forward.close);
  t.is((await forward.open()('metrics', Buffer.alloc(1.1 * maxMessageBytes))).kind, 'retry');
});

test('to close it leaves no connection open', async t => {
  const path = join(socketFolder(t), 'endpoint.sock');
  const take = async () => ({ kind: 'ok' }) as const;
  const receiver = createReceiver({
    ...{ maxMessageBytes: 1000, queueRequests: 2, handlers: { metrics: take, logs: take } },
  });
  const sockets: Socket[] = [];
  const server = createServer(socket => {
    sockets.push(socket);
    receiver.accept(socket);
  });
  await new Promise<void>(listening => server.listen(path, listening));
  t.teardown(() => {
    receiver.stop();
    server.close();
  });
  const forward = createForward({ ...bounds, endpoint: `unix://${path}` });
  const send = forward.open();
  for (const signal of ['metrics', 'logs'] as const)
    t.deepEqual(await send(signal, Buffer.alloc(0)), { kind: 'ok' });
  t.is(sockets.length, 2);
  forward.close();
  await until(() => sockets.every(({ closed }) => closed));
});
