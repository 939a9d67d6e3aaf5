import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { mock } from 'node:test';
import test from 'ava';
import { createExportClient } from '../../src/otlp/export-client.ts';
import { createReceiver } from '../../src/otlp/server.ts';
import { socketFolder } from '../support/sockets.ts';

/** The preface of HTTP/2 and empty settings. */
const greeting = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';

test('a connection whose other end is gone ends within a minute; one that is only idle stays', async t => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const path = join(socketFolder(t), 'o.sock');
  const receiver = createReceiver({
    maxMessageBytes: 4096,
    queueRequests: 4,
    handlers: { metrics: async () => ({ kind: 'ok' }) },
  });
  const connections: Socket[] = [];
  const server = createServer(connection => {
    connections.push(connection);
    receiver.accept(connection);
  }).listen(path);
  t.teardown(() => {
    receiver.stop();
    server.close();
  });
  const client = createExportClient({ endpoint: `unix://${path}`, signal: 'metrics' });
  t.teardown(client.close);
  const send = async () => t.deepEqual(await client.send(Buffer.alloc(0)), { kind: 'ok' });
  await send();
  const silent = createConnection(path).resume();
  silent.write(greeting);
  await once(silent, 'data');

  mock.timers.tick(30_000);
  // The answer to the ping has gone out when the first has been answered, and come in before the second has.
  await send();
  await send();
  t.deepEqual(
    connections.map(({ destroyed }) => destroyed),
    [false, false],
  );
  mock.timers.tick(20_000);
  await once(silent, 'close');
  await send();
  t.deepEqual(
    connections.map(({ destroyed }) => destroyed),
    [false, true],
  );
});
