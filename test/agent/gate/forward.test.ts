import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { createForward } from '../../../src/agent/gate/forward.ts';
import { createReceiver } from '../../../src/otlp/server.ts';
import { socketFolder, until } from '../../support/sockets.ts';

/** A sixteenth of what all guests together may have on the way. */
const request = Buffer.alloc(4_194_304);

test('what has had its answer makes room for others, be that answer that nobody is there', async t => {
  const forward = createForward(`unix://${join(socketFolder(t), 'nobody.sock')}`);
  t.teardown(forward.close);
  const sendAtOnce = async (count: number) => {
    const results = await Promise.all(
      Array.from({ length: count }, () => forward.send('metrics', request)),
    );
    t.true(results.every(({ kind }) => kind === 'retry'));
    return results.filter(
      result => 'reason' in result && /too much of guests is on the way/.test(result.reason),
    ).length;
  };
  t.is(await sendAtOnce(17), 1);
  t.is(await sendAtOnce(16), 0);
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
  const forward = createForward(`unix://${path}`);
  for (const signal of ['metrics', 'logs'] as const)
    t.deepEqual(await forward.send(signal, Buffer.alloc(0)), { kind: 'ok' });
  t.is(sockets.length, 2);
  forward.close();
  await until(() => sockets.every(({ closed }) => closed));
});
