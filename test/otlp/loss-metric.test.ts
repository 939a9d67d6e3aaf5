import test from 'ava';
import type { ResourcePoints } from '../../src/contract/telemetry.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import { startLossMetric } from '../../src/otlp/loss-metric.ts';
import { startOtlpServer } from '../../src/otlp/server.ts';
import { ownUid, socketFolder, until } from '../support/sockets.ts';
import { steppedClock } from '../support/stepped-clock.ts';

test('what could not be used is told by reason every 10 s, late ones as 0 from the beginning, and not before the host is known', async t => {
  const folder = socketFolder(t);
  const received: ResourcePoints[] = [];
  const server = await startOtlpServer({
    listen: `${folder}/otlp.sock`,
    allowUids: [],
    maxMessageBytes: 1 << 20,
    queueRequests: 8,
    peerUid: ownUid,
    handlers: {
      metrics: async request => {
        received.push(...decodeMetrics(request));
        return { kind: 'ok' };
      },
    },
  });
  const clock = steppedClock();
  let host: string | undefined;
  const losses: Record<string, number> = {};
  const metric = startLossMetric({
    endpoint: `unix://${folder}/otlp.sock`,
    scope: 'sculptor.engine',
    service: 'sculptor-engine',
    hostId: () => host,
    clock,
    read: () => losses,
  });
  t.teardown(async () => {
    await metric.stop();
    await server.stop();
  });
  const toldLast = () =>
    Object.fromEntries(
      received.at(-1)?.points.map(point => [point.attributes['sculptor.reason'], point.value]) ??
        [],
    );

  clock.step(10);
  host = 'h';
  clock.step(10);
  await until(() => received.length === 1);
  t.deepEqual(toldLast(), { late: 0, 'not-finite': 0 });
  t.is(received[0]?.resource['service.name'], 'sculptor-engine');
  t.is(received[0]?.points[0]?.metric, 'sculptor.samples.lost');
  losses['late'] = 3;
  losses['evicted'] = 1;
  // The answer to the first may be under way still: then a round is left out, and the next has it.
  await until(() => {
    clock.step(10);
    return toldLast()['late'] === 3;
  });
  t.deepEqual(toldLast(), { late: 3, 'not-finite': 0, evicted: 1 });
});
