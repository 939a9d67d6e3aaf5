import { join } from 'node:path';
import test from 'ava';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import { createMetricsExporter } from '../../src/otlp/metrics-exporter.ts';
import { createOutbox } from '../../src/otlp/outbox.ts';
import type { Sample, Telling } from '../../src/otlp/sample.ts';
import { startOtlpServer } from '../../src/otlp/server.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';
import { writeMetrics } from '../../src/otlp/write-metrics.ts';
import { writeParts } from '../../src/otlp/write-parts.ts';
import { ownUid, socketFolder, until } from '../support/sockets.ts';

const tellingIn = (temporality?: string): Telling => ({
  scope: 'scope',
  resource: { 'service.instance.id': 'host' },
  temporal: temporalityFrom(temporality),
  resolution: () => 'explicit',
});

const samplesOf = (series: number, value = 1, name = 'worker'): Sample[] =>
  Array.from({ length: series }, (_, i) => ({
    metric: 'sculptor.task.cpu.time',
    attributes: { 'thread.id': i, 'thread.name': name },
    start: 1,
    value,
  }));

/** Values by thread. */
const read = (request: Uint8Array) =>
  decodeMetrics(request).flatMap(({ points }) =>
    points.map(
      ({ attributes, value }) => [Number(attributes['thread.id']), Number(value)] as const,
    ),
  );

test('what is small is one request, the same as ever', t => {
  const samples = samplesOf(3);
  const whole = Buffer.from(writeMetrics(tellingIn(), samples, 2));
  t.deepEqual(
    [...writeParts(tellingIn(), samples, 2)].map(part => Buffer.from(part)),
    [whole],
  );
});

test('what is too large is several requests of the same resource, with every series once', t => {
  const parts: number[] = [];
  const told = new Map<number, number>();
  for (const part of writeParts(tellingIn(), samplesOf(100), 2, 1000)) {
    parts.push(part.byteLength);
    t.is(decodeMetrics(part)[0]?.resource['service.instance.id'], 'host');
    for (const [thread, value] of read(part)) told.set(thread, value + (told.get(thread) ?? 0));
  }
  t.true(parts.length > 1 && Math.max(...parts) <= 1000, `${parts}`);
  t.deepEqual(
    [...told].sort(([a], [b]) => a - b),
    Array.from({ length: 100 }, (_, i) => [i, 1]),
  );
});

test('a single series that is too large goes out as it is', t => {
  const [first, ...more] = writeParts(tellingIn(), samplesOf(1, 1, 'x'.repeat(2000)), 2, 1000);
  t.true((first?.byteLength ?? 0) > 2000);
  t.deepEqual(more, []);
});

test('a collector that takes 4 MiB gets a resource of more, of which deltas are taken off part by part', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  const told: number[][] = [];
  let sum = 0;
  let refuses = true;
  const server = await startOtlpServer({
    listen,
    allowUids: [],
    maxMessageBytes: 4_194_304,
    queueRequests: 16,
    peerUid: ownUid,
    handlers: {
      metrics: async request => {
        const threads = read(request);
        const isRefused = refuses && threads.some(([thread]) => thread === 0);
        if (isRefused) return { kind: 'unavailable', retryAfterSeconds: 1 };
        told.push(threads.map(([thread]) => thread));
        sum += threads.reduce((all, [, value]) => all + value, 0);
        return { kind: 'ok' };
      },
    },
  });
  t.teardown(() => server.stop());
  const telling = tellingIn('delta');
  const outbox = createOutbox(
    createMetricsExporter({ endpoint: `unix://${listen}`, timeoutSeconds: 20 }),
    telling.temporal,
  );
  t.teardown(() => outbox.stop());
  const series = 60_000;
  outbox.send(() => writeParts(telling, samplesOf(series, 1), 2));
  await until(() => outbox.lost().failed === 1, 30);
  t.true(told.length > 0 && told.flat().length < series, 'a part arrived, and one did not');
  refuses = false;
  outbox.send(() => writeParts(telling, samplesOf(series, 3), 3));
  await until(() => outbox.delivered() === 1, 30);
  t.is(sum, 3 * series);
});

test('each export of which a part is too large still is counted as that, and all else arrives', async t => {
  const listen = join(socketFolder(t), 'o.sock');
  const told: number[] = [];
  const server = await startOtlpServer({
    listen,
    allowUids: [],
    maxMessageBytes: 4096,
    queueRequests: 4,
    peerUid: ownUid,
    handlers: {
      metrics: async request => {
        told.push(...read(request).map(([thread]) => thread));
        return { kind: 'ok' };
      },
    },
  });
  t.teardown(() => server.stop());
  const endpoint = `unix://${listen}`;
  const telling = tellingIn();
  const outbox = createOutbox(
    createMetricsExporter({ endpoint, maxRequestBytes: 4000 }),
    telling.temporal,
  );
  t.teardown(() => outbox.stop());
  const send = async (large: number): Promise<void> => {
    const ended = () => outbox.delivered() + outbox.lost().too_large + outbox.lost().failed;
    const before = ended();
    outbox.send(function* () {
      yield* writeParts(telling, samplesOf(2), 2, 4000);
      if (large > 0) yield* writeParts(telling, samplesOf(large, 1, 'x'.repeat(5000)), 2, 4000);
    });
    await until(() => ended() > before);
  };
  // However many parts of one are.
  for (const large of [2, 0, 1, 5, 0, 0]) await send(large);
  t.deepEqual(outbox.lost(), { busy: 0, failed: 0, too_large: 3 });
  t.is(outbox.delivered(), 3);
  t.deepEqual(told, Array.from({ length: 6 }, () => [0, 1]).flat());
});
