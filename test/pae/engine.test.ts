import { join } from 'node:path';
import type { MetricData } from '@opentelemetry/sdk-metrics';
import test, { type ExecutionContext } from 'ava';
import { engineConfigSchema, listenSchema } from '../../src/contract/config.ts';
import { type EventName, parseEvent } from '../../src/contract/events.ts';
import { scopes } from '../../src/contract/metrics.ts';
import { policySchema } from '../../src/contract/policy.ts';
import type { Clock } from '../../src/contract/ports.ts';
import type { LogEvent } from '../../src/contract/telemetry.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { eventEncoder } from '../../src/otlp/events-exporter.ts';
import { createExportClient } from '../../src/otlp/export-client.ts';
import { plainEvent } from '../../src/otlp/plain-event.ts';
import { startOtlpServer } from '../../src/otlp/server.ts';
import { generateKeys, signedEvent, verifyEvent } from '../../src/otlp/signing.ts';
import { startEngine } from '../../src/pae/engine.ts';
import { counter, resourceMetrics, serialize } from '../otlp/support.ts';
import { ownUid, realTime, socketFolder, until } from '../support/sockets.ts';
import { placement, topology } from './stream.ts';

/** A real engine on its socket, what it says, and clients that speak to it. `clock`: what it takes the time to be. */
async function start(t: ExecutionContext, clock: Clock = realTime) {
  const folder = socketFolder(t);
  const endpoint = join(folder, 'pipeline.sock');
  const listen = join(folder, 'engine.sock');
  const heard: LogEvent[] = [];
  const pipeline = await startOtlpServer({
    listen: endpoint,
    allowUids: [],
    maxMessageBytes: 16_777_216,
    queueRequests: 64,
    peerUid: ownUid,
    handlers: {
      logs: async request => {
        heard.push(...decodeLogs(request));
        return { kind: 'ok' };
      },
    },
  });
  t.teardown(() => pipeline.stop());
  const keys = generateKeys();
  const engine = await startEngine({
    config: engineConfigSchema.parse({
      listen,
      endpoint: `unix://${endpoint}`,
      heartbeatSeconds: 0.1,
      stepSeconds: 0.2,
    }),
    sockets: listenSchema.parse({}),
    peerUid: ownUid,
    privateKey: keys.privateKey,
    clock,
    say: () => undefined,
  });
  t.teardown(() => engine.stop());
  const client = (signal: 'logs' | 'metrics') => {
    const made = createExportClient({
      endpoint: `unix://${listen}`,
      signal,
      timeoutSeconds: 5,
    });
    t.teardown(() => made.close());
    return made;
  };
  const of = (name: EventName) => heard.filter(event => event.eventName === name);
  return { engine, keys, of, logs: client('logs'), metrics: client('metrics') };
}

/** The same metric at a time in seconds since the epoch. */
function at(seconds: number, metric: MetricData): MetricData {
  const endTime = [Math.floor(seconds), Math.round((seconds % 1) * 1e9)];
  const dataPoints = metric.dataPoints.map(point => ({ ...point, endTime }));
  return { ...metric, dataPoints } as MetricData;
}

const encode = eventEncoder(scopes.agent, { 'service.name': 'sculptor-agent' });

test('it is silent until it hears of its host, be it only by the series of its agent; then its heartbeats are signed and count up', async t => {
  const { keys, of, metrics, engine } = await start(t);
  const tell = (resource: Record<string, string>) =>
    metrics.send(serialize(resourceMetrics(resource, [counter('container.cpu.time', 1)])));
  await tell({ 'host.id': 'i-0123', 'service.name': 'another tool' });
  t.is(engine.status().hostId, null);
  await tell({
    'host.id': 'host',
    'sculptor.instance.id': '/a',
    'sculptor.instance.kind': 'cgroup',
  });
  await until(() => of('sculptor.heartbeat').length >= 3);
  const beats = of('sculptor.heartbeat').map(event => {
    verifyEvent(event, 'sculptor.heartbeat', [keys.publicKey]);
    return parseEvent('sculptor.heartbeat', event);
  });
  t.deepEqual(
    beats.map(beat => beat.sequence),
    beats.map((_, i) => i + 1),
  );
  t.is(new Set(beats.map(beat => beat.epoch)).size, 1);
  t.is(beats[0]?.hostId, 'host');
});

test('what it hears of contention becomes a signed recommendation that names the model', async t => {
  // What is old is not acted on, and a busy machine takes its time to send it: the newest of it is of now, whenever that comes.
  const now = 1_700_000_000;
  const { keys, of, logs, metrics, engine } = await start(t, {
    ...realTime,
    unixSeconds: () => now,
  });
  const instances = ['/critical', ...Array.from({ length: 8 }, (_, i) => `/batch${i}`)];
  const policy = policySchema.parse({
    instances: [
      { match: '/critical', class: 'latency-critical' },
      { match: '/batch*', class: 'batch' },
    ],
  });
  const tell = (event: Parameters<typeof encode>[0]) => logs.send(encode(event, 1));
  await tell(plainEvent('sculptor.topology', topology(2), 'two CPUs'));
  await tell(
    plainEvent('sculptor.policy', { hostId: 'host', at: 1, policy, mode: 'observe' }, 'the policy'),
  );
  for (const id of instances)
    await tell(plainEvent('sculptor.placement', placement({ id, load: { used: 0 } }, [0, 1]), id));
  for (let i = 0; i < 4; i += 1) {
    const time = now - 0.6 + i * 0.2;
    const requests = instances.map(id => {
      const [used, wait] = id === '/critical' ? [0.2, 0.4] : [0.22, 0.78];
      const resource = { 'sculptor.instance.id': id, 'sculptor.instance.kind': 'cgroup' };
      const points = [
        at(time, counter('container.cpu.time', used * i * 0.2)),
        at(time, counter('sculptor.runqueue.wait', wait * i * 0.2)),
        at(time, counter('sculptor.cpu.throttled.time', 0)),
      ];
      return serialize(resourceMetrics(resource, points));
    });
    await metrics.send(Buffer.concat(requests));
  }
  await until(() => of('sculptor.recommendation').length > 0);
  const [event] = of('sculptor.recommendation');
  if (!event) throw new Error('nothing was recommended');
  verifyEvent(event, 'sculptor.recommendation', [keys.publicKey]);
  const recommendation = parseEvent('sculptor.recommendation', event);
  t.is(recommendation.beneficiary.id, '/critical');
  t.true('weight' in (recommendation.moves[0]?.set ?? {}));
  t.deepEqual(recommendation.model, engine.status().model);
  t.is(engine.recommendations()[0]?.id, recommendation.id);
});

test('bad events are refused by name, its own are never input, and it lives on', async t => {
  const { keys, of, logs, metrics, engine } = await start(t);
  const broken = plainEvent('sculptor.topology', { ...topology(2), cpus: [] }, 'no CPUs');
  const answer = await logs.send(encode(broken, 1));
  t.is(answer.kind, 'partial');
  t.regex(JSON.stringify(answer), /sculptor\.topology: cpus/);
  const cut = await metrics.send(Buffer.from([10, 200, 1, 2]));
  t.not(cut.kind, 'ok');
  const own = eventEncoder(scopes.engine, {});
  await logs.send(own(plainEvent('sculptor.topology', topology(64), 'own'), 1));
  t.is(engine.status().counters['own'], 1);
  t.is(engine.status().hostId, null);
  const heartbeat = { hostId: 'host', created: 1, epoch: 1, sequence: 1 };
  await logs.send(encode(signedEvent('sculptor.heartbeat', heartbeat, keys.privateKey, 'x'), 1));
  await logs.send(encode(plainEvent('sculptor.topology', topology(2), 'two CPUs'), 1));
  await until(() => of('sculptor.heartbeat').length > 0);
  t.is(engine.status().counters['malformed'], 1);
});
