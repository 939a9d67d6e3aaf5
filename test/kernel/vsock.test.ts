import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import { startGate } from '../../src/agent/gate/gate.ts';
import { startVsockUplink } from '../../src/agent/vsock-uplink.ts';
import { ConfigError } from '../../src/contract/errors.ts';
import { gateConfigSchema } from '../../src/contract/gate-config.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { createExportClient } from '../../src/otlp/export-client.ts';
import { startSink } from '../agent/gate/support.ts';
import { counter, resourceMetrics, serialize } from '../otlp/support.ts';
import { needs } from '../support/needs.ts';
import { realTime, socketFolder, until } from '../support/sockets.ts';

const vsockTest = needs('addon', 'vsock');
const loopbackTest = needs('addon', 'vsock', 'vsockLoopback');
/** VMADDR_CID_LOCAL: this machine itself. */
const own = 1;
let lastPort = 40_000 + (process.pid % 10_000);
const nextPort = (): number => ++lastPort;
const wrap = (fd: number) =>
  new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });

function bridge(t: ExecutionContext, maxConnections = 8) {
  const opened = loadNative().openVsockBridge({ maxConnections });
  t.teardown(() => opened.close());
  return opened;
}

/** Two ends of one connection over the kernel's loopback, and the bridge of each. */
async function connected(t: ExecutionContext) {
  const port = nextPort();
  const [server, client] = [bridge(t), bridge(t)];
  const accepted = new Promise<{ socket: Socket; cid: number }>(resolve =>
    server.listen(port, (fd, cid) => resolve({ socket: wrap(fd), cid })),
  );
  const near = wrap(client.dial(own, port));
  const { socket: far, cid } = await accepted;
  t.teardown(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far, cid, server, client };
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

vsockTest('a port that is taken is refused with the kernel’s own code', t => {
  const port = nextPort();
  bridge(t).listen(port, () => undefined);
  const error = t.throws(() => bridge(t).listen(port, () => undefined));
  t.like(error, { code: 'EADDRINUSE' });
  t.regex(error.message, new RegExp(`vsock port ${port}`));
});

vsockTest('a bridge that was closed says so, and closing it again is nothing', t => {
  const closed = bridge(t);
  closed.listen(nextPort(), () => undefined);
  closed.close();
  closed.close();
  t.like(
    t.throws(() => closed.counters()),
    { code: 'EBADF' },
  );
});

vsockTest('a listener that nobody closes does not keep the process', t => {
  // What it leaves is this test's to see: the run would hang.
  loadNative()
    .openVsockBridge({ maxConnections: 1 })
    .listen(nextPort(), () => undefined);
  t.pass();
});

loopbackTest('megabytes go both ways, and an end is passed on by itself', async t => {
  const { near, far, cid } = await connected(t);
  t.is(cid, own);
  const [there, back] = [randomBytes(3_000_000), randomBytes(5_000_000)];
  near.end(there);
  t.true((await readAll(far)).equals(there));
  t.true(far.writable, 'only one direction has ended');
  far.end(back);
  t.true((await readAll(near)).equals(back));
});

loopbackTest('a reader that is slow holds the writer up, not memory', async t => {
  const { near, far } = await connected(t);
  far.pause();
  let written = 0;
  const chunk = Buffer.alloc(65_536);
  const deadline = performance.now() + 3000;
  while (near.write(chunk) || near.writableLength < 1_000_000) {
    written += chunk.length;
    if (performance.now() > deadline) break;
    await new Promise(resolve => setImmediate(resolve));
  }
  // The buffers of two socket pairs, of vsock and of the bridges: all bounded.
  t.true(written - near.writableLength < 8_000_000, `${written} bytes were taken`);
});

loopbackTest(
  'an end that goes at once takes the other with it, and the bridges forget both',
  async t => {
    const { near, far, server, client } = await connected(t);
    far.resume();
    near.destroy();
    await once(far, 'end');
    far.destroy();
    await until(() => server.counters().open === 0 && client.counters().open === 0);
    t.pass();
  },
);

loopbackTest('a peer that reads nothing cannot keep a connection that was given up', async t => {
  const { near, far, server } = await connected(t);
  near.pause();
  far.write(Buffer.alloc(4_000_000));
  await new Promise(resolve => setTimeout(resolve, 200));
  far.destroy();
  await until(() => server.counters().open === 0, 20);
  t.pass();
});

loopbackTest('a connection that nobody takes ends, and why is told', async t => {
  const client = bridge(t);
  const socket = wrap(client.dial(own, nextPort()));
  socket.resume();
  await once(socket, 'end');
  t.like(client.counters(), { open: 0, failed: 1, lastFailure: 'ECONNRESET' });
});

loopbackTest('more connections than allowed are refused and counted', async t => {
  const port = nextPort();
  const [server, client] = [bridge(t, 2), bridge(t, 8)];
  const accepted: Socket[] = [];
  server.listen(port, fd => accepted.push(wrap(fd).resume()));
  const dialled = [1, 2, 3, 4].map(() => wrap(client.dial(own, port)).resume());
  await until(() => server.counters().refused === 2);
  await until(() => dialled.filter(socket => socket.readableEnded).length === 2);
  t.is(accepted.length, 2);
  for (const socket of [...accepted, ...dialled]) socket.destroy();
  await until(() => server.counters().open === 0);
});

loopbackTest(
  'a guest that exports over vsock arrives as the instance of its context id',
  async t => {
    const port = nextPort();
    const uuid = '11111111-2222-3333-4444-555555555555';
    const native = loadNative();
    const sink = await startSink(t);
    const gate = await startGate({
      config: gateConfigSchema.parse({ vsock: { port, guests: [{ cid: own, instance: uuid }] } }),
      endpoint: sink.endpoint,
      host: { hostId: 'the-host', hostName: 'h' },
      native,
      roots: hostRoots,
      clock: realTime,
      say: () => undefined,
    });
    const uplink = await startVsockUplink({
      endpoint: `vsock://${own}:${port}`,
      folder: socketFolder(t),
      native,
      clock: realTime,
      say: () => undefined,
    });
    const client = createExportClient({ endpoint: uplink.endpoint, signal: 'metrics' });
    t.teardown(async () => {
      client.close();
      await uplink.stop();
      await gate.stop();
    });
    const claim = { 'sculptor.instance.id': '/machine/another', 'host.id': 'x' };
    const request = serialize(resourceMetrics(claim, [counter('m', 4.5)]));
    t.deepEqual(await client.send(request), { kind: 'ok' });
    t.like(sink.resources[0]?.resource, {
      'sculptor.instance.id': uuid,
      'sculptor.origin': 'guest',
      'host.id': 'the-host',
      'sculptor.guest.instance.id': '/machine/another',
    });
    t.is(sink.resources[0]?.points[0]?.value, 4.5);
    t.like(gate.status().guests[0], { via: `vsock ${own}`, connections: 1, records: 1 });
  },
);

loopbackTest('a context id that is of nobody is refused, counted and said', async t => {
  const port = nextPort();
  const said: string[] = [];
  const native = loadNative();
  const gate = await startGate({
    config: gateConfigSchema.parse({ vsock: { port } }),
    endpoint: 'unix:///nowhere',
    host: { hostId: 'the-host', hostName: 'h' },
    native,
    roots: hostRoots,
    clock: realTime,
    say: (_, message) => said.push(message),
  });
  t.teardown(() => gate.stop());
  const client = bridge(t);
  for (let i = 0; i < 3; i++) {
    const socket = wrap(client.dial(own, port)).resume();
    await once(socket, 'end');
  }
  t.is(gate.status().dropped.connection_unknown, 3);
  t.deepEqual(said, ['agent: gate: vsock 1: no instance of this host is known there; refused']);
});

vsockTest(
  'an endpoint that is no vsock address is a ConfigError that says what is wanted',
  async t => {
    const native = loadNative();
    const options = {
      folder: socketFolder(t),
      native,
      clock: realTime,
      say: () => undefined,
    };
    const error = await t.throwsAsync(
      startVsockUplink({ ...options, endpoint: 'vsock://2:99999999999' }),
      { instanceOf: ConfigError },
    );
    t.regex(error?.message ?? '', /wanted vsock:\/\/cid:port/);
  },
);
