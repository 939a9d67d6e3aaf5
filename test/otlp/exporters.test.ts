import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseEvent } from '../../src/contract/events.ts';
import type { LogEvent, ResourcePoints } from '../../src/contract/telemetry.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import { createEventsExporter } from '../../src/otlp/events-exporter.ts';
import { createMetricsExporter } from '../../src/otlp/metrics-exporter.ts';
import { type Outcome, startOtlpServer } from '../../src/otlp/server.ts';
import { generateKeys, signedEvent } from '../../src/otlp/signing.ts';
import { uidsOf } from '../../src/otlp/users.ts';
import { ownUid, realTime, socketFolder, until } from '../support/sockets.ts';
import { counter, resourceMetrics, serialize } from './support.ts';

/** A receiver that decodes, and answers as told. */
async function receiver(
  t: ExecutionContext,
  listen: string,
  answer: () => Outcome = () => ({ kind: 'ok' }),
) {
  const requests: ResourcePoints[][] = [];
  const events: LogEvent[] = [];
  const server = await startOtlpServer({
    listen,
    allowUids: [],
    maxMessageBytes: 16_777_216,
    queueRequests: 64,
    peerUid: ownUid,
    handlers: {
      metrics: async request => {
        requests.push(decodeMetrics(request));
        return answer();
      },
      logs: async request => {
        const outcome = answer();
        if (outcome.kind === 'ok') events.push(...decodeLogs(request));
        return outcome;
      },
    },
  });
  t.teardown(() => server.stop());
  return { requests, events };
}

const instances = (n: number) =>
  Array.from({ length: n }, (_, i) =>
    serialize(
      resourceMetrics({ 'sculptor.instance.id': `/machine/${i}` }, [
        counter('container.cpu.time', i),
      ]),
    ),
  );

test('200 instances are one call with 200 resources', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  const { requests } = await receiver(t, listen);
  const exporter = createMetricsExporter({ endpoint: `unix://${listen}` });
  t.teardown(() => exporter.stop());
  t.deepEqual(await exporter.export(instances(200)), { ok: true });
  t.deepEqual(
    requests.map(r => r.length),
    [200],
  );
  t.is(new Set(requests[0]?.map(r => r.resource['sculptor.instance.id'])).size, 200);
});

test('a request that a collector would find too large is cut between resources', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  const { requests } = await receiver(t, listen);
  const exporter = createMetricsExporter({ endpoint: `unix://${listen}`, maxRequestBytes: 2000 });
  t.teardown(() => exporter.stop());
  t.deepEqual(await exporter.export(instances(50)), { ok: true });
  t.true(requests.length > 1);
  t.is(requests.flat().length, 50);
});

test('nothing to export is no call', async t => {
  const exporter = createMetricsExporter({ endpoint: 'unix:///nowhere' });
  t.teardown(() => exporter.stop());
  t.deepEqual(await exporter.export([]), { ok: true });
});

test('an export that fails says why', async t => {
  const folder = socketFolder(t);
  const listen = join(folder, 'o.sock');
  const exporter = createMetricsExporter({ endpoint: `unix://${listen}` });
  t.teardown(() => exporter.stop());
  const result = await exporter.export(instances(1));
  t.false(result.ok);
  t.regex(result.ok ? '' : result.reason, /UNAVAILABLE/);
});

test('of several requests the one that fails says which resources did not arrive', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  let nth = 0;
  const { requests } = await receiver(t, listen, () =>
    nth++ === 1 ? { kind: 'invalid', message: 'not this one' } : { kind: 'ok' },
  );
  const exporter = createMetricsExporter({ endpoint: `unix://${listen}`, maxRequestBytes: 2000 });
  t.teardown(() => exporter.stop());
  const result = await exporter.export(instances(50));
  t.true(requests.length > 2);
  const untaken = requests[1]?.map(each =>
    Number(String(each.resource['sculptor.instance.id']).slice(9)),
  );
  t.deepEqual(result, {
    ok: false,
    why: 'failed',
    reason: 'INVALID_ARGUMENT: not this one',
    untaken,
  });
});

test('a partial success is a failure that says how much and why', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  await receiver(t, listen, () => ({ kind: 'partial', rejected: 2, message: 'late' }));
  const exporter = createMetricsExporter({ endpoint: `unix://${listen}` });
  t.teardown(() => exporter.stop());
  t.deepEqual(await exporter.export(instances(3)), {
    ok: false,
    why: 'failed',
    reason: '2 points rejected: late',
    untaken: [],
  });
});

const keys = generateKeys();
const heartbeat = (sequence: number) =>
  signedEvent(
    'sculptor.heartbeat',
    { hostId: 'h', created: 1, epoch: 1, sequence },
    keys.privateKey,
    'b',
  );

function eventsExporter(t: ExecutionContext, listen: string) {
  const exporter = createEventsExporter({
    endpoint: `unix://${listen}`,
    scope: 'sculptor.engine',
    resource: { 'host.id': 'h' },
    clock: realTime,
  });
  t.teardown(() => exporter.stop());
  return exporter;
}

test('events arrive in their order', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  const { events } = await receiver(t, listen);
  const exporter = eventsExporter(t, listen);
  for (let i = 0; i < 100; i++) exporter.emit(heartbeat(i));
  t.true(await exporter.flush());
  t.deepEqual(
    events.map(event => parseEvent('sculptor.heartbeat', event).sequence),
    Array.from({ length: 100 }, (_, i) => i),
  );
  t.deepEqual(exporter.counters(), { sent: 100 });
});

test('events that were emitted before the other end started arrive when it starts', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  const exporter = eventsExporter(t, listen);
  exporter.emit(heartbeat(1));
  await until(() => (exporter.counters().retries ?? 0) >= 2);
  t.regex(exporter.lastFailure() ?? '', /UNAVAILABLE/);
  const { events } = await receiver(t, listen);
  exporter.emit(heartbeat(2));
  await until(() => events.length === 2);
  t.deepEqual(
    events.map(event => parseEvent('sculptor.heartbeat', event).sequence),
    [1, 2],
  );
});

test('events come through a receiver that is full for a while', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  let full = 2;
  const { events } = await receiver(t, listen, () =>
    full-- > 0 ? { kind: 'unavailable', retryAfterSeconds: 0.01 } : { kind: 'ok' },
  );
  const exporter = eventsExporter(t, listen);
  exporter.emit(heartbeat(1));
  t.true(await exporter.flush());
  t.is(events.length, 1);
  t.deepEqual(exporter.counters(), { sent: 1, retries: 2 });
});

test('what is emitted last arrives although the part stops', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  const { events } = await receiver(t, listen);
  const exporter = eventsExporter(t, listen);
  exporter.emit(heartbeat(1));
  exporter.emit(heartbeat(2));
  await exporter.stop();
  t.is(events.length, 2);
});

test('stopping without another end takes no longer than its grace', async t => {
  const exporter = eventsExporter(t, join(socketFolder(t), 'none.sock'));
  exporter.emit(heartbeat(1));
  const began = performance.now();
  await exporter.stop();
  t.true(performance.now() - began < 3000);
  t.is(exporter.counters()['lost.stopped'], 1);
});

test('users are taken by name or by uid', t => {
  const passwd = join(socketFolder(t), 'passwd');
  writeFileSync(passwd, 'root:x:0:0::/:/bin/sh\n# a comment\notel:x:998:998::/:/bin/false\n\n');
  t.deepEqual(uidsOf(['otel', 7, 'root'], 'a.key', passwd), [998, 7, 0]);
  t.throws(() => uidsOf(['nobody'], 'a.key', passwd), {
    code: 'CONFIG_INVALID',
    message: `a.key: wanted a user of ${passwd} or a uid, got "nobody"`,
  });
});
