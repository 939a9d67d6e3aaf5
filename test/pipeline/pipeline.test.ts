import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { configSchema } from '../../src/contract/config.ts';
import type { OutgoingEvent } from '../../src/contract/events.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import { eventEncoder } from '../../src/otlp/events-exporter.ts';
import { createExportClient } from '../../src/otlp/export-client.ts';
import { createMetricsExporter } from '../../src/otlp/metrics-exporter.ts';
import { type Outcome, startOtlpServer } from '../../src/otlp/server.ts';
import { startPipeline } from '../../src/pipeline/pipeline.ts';
import { counter, resourceMetrics, serialize } from '../otlp/support.ts';
import { ownUid, realTime, socketFolder, until } from '../support/sockets.ts';

type Got = { readonly metrics: Buffer[]; readonly logs: Buffer[] };

/** A destination that keeps what it gets. */
async function destination(
  t: ExecutionContext,
  listen: string,
  answer: () => Outcome = () => ({ kind: 'ok' }),
) {
  const got: Got = { metrics: [], logs: [] };
  const keep = (signal: keyof Got) => async (request: Buffer) => {
    const outcome = answer();
    if (outcome.kind === 'ok') got[signal].push(request);
    return outcome;
  };
  const server = await startOtlpServer({
    listen,
    allowUids: [],
    maxMessageBytes: 16_777_216,
    queueRequests: 64,
    peerUid: ownUid,
    handlers: { metrics: keep('metrics'), logs: keep('logs') },
  });
  t.teardown(() => server.stop());
  return { ...got, stop: server.stop };
}

async function start(t: ExecutionContext, sockets: object = {}) {
  const folder = socketFolder(t);
  const path = (part: string) => join(folder, `${part}.sock`);
  const config = configSchema.parse({
    sockets,
    pipeline: {
      listen: path('pipeline'),
      engine: `unix://${path('engine')}`,
      sculptor: `unix://${path('sculptor')}`,
    },
  });
  const said: string[] = [];
  const pipeline = await startPipeline({
    config: config.pipeline,
    sockets: config.sockets,
    peerUid: ownUid,
    clock: realTime,
    say: (_level, message) => said.push(message),
  });
  t.teardown(() => pipeline.stop());
  const endpoint = `unix://${path('pipeline')}`;
  const logs = createExportClient({ endpoint, signal: 'logs' });
  const metrics = createExportClient({ endpoint, signal: 'metrics' });
  t.teardown(() => {
    logs.close();
    metrics.close();
  });
  return { pipeline, path, logs, metrics, endpoint, said };
}

const fromAgent = eventEncoder('sculptor.agent', {});
const fromEngine = eventEncoder('sculptor.engine', {});
const event = (eventName: string) =>
  ({ eventName, body: '', attributes: {} }) as unknown as OutgoingEvent;

test('metrics reach the engine and the sculptor, bytes untouched', async t => {
  const { path, endpoint } = await start(t);
  const engine = await destination(t, path('engine'));
  const sculptor = await destination(t, path('sculptor'));
  const exporter = createMetricsExporter({ endpoint });
  t.teardown(() => exporter.stop());
  const resources = Array.from({ length: 200 }, (_, i) =>
    serialize(
      resourceMetrics({ 'sculptor.instance.id': `/i/${i}` }, [counter('container.cpu.time', i)]),
    ),
  );
  t.deepEqual(await exporter.export(resources), { ok: true });
  await until(() => engine.metrics.length > 0 && sculptor.metrics.length > 0);
  t.deepEqual(engine.metrics, sculptor.metrics);
  const decoded = decodeMetrics(engine.metrics[0] ?? new Uint8Array());
  t.deepEqual(
    decoded.map(({ resource }) => resource['sculptor.instance.id']),
    resources.map((_, i) => `/i/${i}`),
  );
});

test('forecasts of the engine do not come back to it', async t => {
  const { path, endpoint, pipeline } = await start(t);
  const engine = await destination(t, path('engine'));
  const sculptor = await destination(t, path('sculptor'));
  const exporter = createMetricsExporter({ endpoint });
  t.teardown(() => exporter.stop());
  const forecast = serialize(
    resourceMetrics({ id: 'f' }, [counter('x.forecast', 1)], 'sculptor.engine'),
  );
  await exporter.export([forecast]);
  const other = serialize(resourceMetrics({ id: 'a' }, [counter('x', 1)]));
  await exporter.export([forecast, other]);
  await until(() => engine.metrics.length === 1 && sculptor.metrics.length === 2);
  t.deepEqual(
    decodeMetrics(engine.metrics[0] ?? new Uint8Array()).map(r => r.resource),
    [{ id: 'a' }],
  );
  t.is(pipeline.counters()['dropped.own-metrics'], 2);
});

test('events go by their name, and the mode is stamped from the next record on', async t => {
  const { path, logs, pipeline, said } = await start(t);
  const engine = await destination(t, path('engine'));
  const sculptor = await destination(t, path('sculptor'));
  await logs.send(fromAgent(event('sculptor.topology'), 1));
  await logs.send(fromEngine(event('sculptor.heartbeat'), 2));
  pipeline.setMode('enforce');
  await logs.send(fromEngine(event('sculptor.heartbeat'), 3));
  await logs.send(fromEngine(event('else'), 4));
  await until(() => engine.logs.length === 1 && sculptor.logs.length === 2);
  const stamps = sculptor.logs.flatMap(b => decodeLogs(b)).map(e => e.attributes['sculptor.mode']);
  t.deepEqual(stamps, ['observe', 'enforce']);
  t.is(decodeLogs(engine.logs[0] ?? new Uint8Array())[0]?.eventName, 'sculptor.topology');
  t.is(pipeline.mode(), 'enforce');
  t.true(said.some(text => text.includes('observe → enforce')));
  const { counters } = pipeline;
  t.is(counters()['dropped.unrouted'], 1);
  t.is(counters()['routed.sculptor.records'], 2);
  t.is(counters()['sculptor.logs.sent'], 2);
});

test('a dead sculptor does not keep anything from the engine, and gets what waits when it is back', async t => {
  const { path, logs, metrics, pipeline } = await start(t);
  const engine = await destination(t, path('engine'));
  const request = fromAgent(event('sculptor.topology'), 1);
  for (let i = 0; i < 5; i++) {
    t.is((await logs.send(fromEngine(event('sculptor.heartbeat'), i))).kind, 'ok');
    t.is((await logs.send(request)).kind, 'ok');
    t.is((await metrics.send(Buffer.alloc(0))).kind, 'ok');
  }
  await until(() => engine.logs.flatMap(b => decodeLogs(b)).length === 5);
  t.is(pipeline.counters()['sculptor.logs.sent'], undefined);
  const sculptor = await destination(t, path('sculptor'));
  await until(() => sculptor.logs.flatMap(b => decodeLogs(b)).length === 5);
  t.pass();
});

test('a queue of events that is full sends the sender back, and loses nothing', async t => {
  const { logs, pipeline } = await start(t);
  const heartbeat = fromEngine(event('sculptor.heartbeat'), 1);
  for (let i = 0; i < 256; i++) t.is((await logs.send(heartbeat)).kind, 'ok');
  const refused = await logs.send(heartbeat);
  t.like(refused, { kind: 'retry', afterSeconds: 0.5 });
  t.is((await logs.send(fromAgent(event('sculptor.topology'), 1))).kind, 'ok');
  t.is(pipeline.counters()['receiver.refused.unavailable'], 1);
  t.is(pipeline.counters()['sculptor.logs.lost.queue-full'], undefined);
});

test('a queue of metrics that is full loses its oldest copies, counted, and never refuses', async t => {
  const { path, metrics, pipeline } = await start(t, { maxMessageBytes: 4096 });
  const engine = await destination(t, path('engine'));
  const request = serialize(resourceMetrics({ id: 'x'.repeat(3000) }, []));
  for (let i = 0; i < 5; i++) t.is((await metrics.send(request)).kind, 'ok');
  await until(() => (pipeline.counters()['engine.metrics.sent'] ?? 0) === 5);
  t.true((pipeline.counters()['sculptor.metrics.lost.queue-full'] ?? 0) >= 2);
  t.true(engine.metrics.length > 0);
});

test('what is not OTLP is INVALID_ARGUMENT, and goes nowhere', async t => {
  const { logs, metrics, pipeline } = await start(t);
  const cut = fromAgent(event('sculptor.topology'), 1).subarray(0, 10);
  t.like(await logs.send(cut), { kind: 'refused' });
  t.like(await metrics.send(Buffer.from([10, 200])), { kind: 'refused' });
  t.is(pipeline.counters()['receiver.refused.malformed'], 2);
});

test('an unknown user in allowUsers is a ConfigError', async t => {
  await t.throwsAsync(() => start(t, { allowUsers: ['nobody-has-this-name'] }), {
    code: 'CONFIG_INVALID',
    message: /nobody-has-this-name/,
  });
});
