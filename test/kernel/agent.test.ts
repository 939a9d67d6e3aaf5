import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent } from '../../src/agent/agent.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { parseEvent } from '../../src/contract/events.ts';
import type { LogEvent, ResourcePoints } from '../../src/contract/telemetry.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import { startOtlpServer } from '../../src/otlp/server.ts';
import { needs } from '../support/needs.ts';
import { eventually, stageScene } from '../support/scene.ts';
import { ownUid, realTime } from '../support/sockets.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');

test('the agent tells run time and wait of a real cgroup, its placement, and its end', async t => {
  t.timeout(60_000);
  const run = mkdtempSync(join(tmpdir(), 'sculptor-agent-'));
  const received: ResourcePoints[] = [];
  const events: LogEvent[] = [];
  const receiver = await startOtlpServer({
    listen: `${run}/otlp.sock`,
    allowUids: [0],
    maxMessageBytes: 1 << 24,
    queueRequests: 64,
    peerUid: ownUid,
    handlers: {
      metrics: async request => {
        received.push(...decodeMetrics(request));
        return { kind: 'ok' };
      },
      logs: async request => {
        events.push(...decodeLogs(request));
        return { kind: 'ok' };
      },
    },
  });
  const agent = await startAgent({
    config: agentConfigSchema.parse({
      endpoint: `unix://${run}/otlp.sock`,
      detailIntervalSeconds: 2,
    }),
    native: loadNative(),
    roots: hostRoots,
    hostId: 'test-host',
    clock: realTime,
    say: () => undefined,
  });
  const scene = stageScene('sculptor-agent');
  const id = scene.id('pair');
  const pointsOf = (metric: string) =>
    received.flatMap(({ resource, points }) =>
      resource['sculptor.instance.id'] === id
        ? points.filter(point => point.metric === metric)
        : [],
    );
  const placements = () =>
    events.flatMap(event => {
      if (event.eventName !== 'sculptor.placement') return [];
      const placement = parseEvent('sculptor.placement', event);
      return placement.instance.id === id ? [placement] : [];
    });
  try {
    scene.spawn('pair', 'spin', '--threads', '4');
    const placed = await eventually('its placement', 3, () => placements()[0]);
    t.is(placed.cgroup.parent, '/');
    t.is(placed.cgroup.weight, 100);
    t.true(placed.tasks.length >= 1 && placed.tasks.every(task => task.ownMask === false));

    // Four spinners on two CPUs: each second two cores are used and two are waited for, whatever else the machine does.
    await eventually('six seconds of series', 15, () =>
      pointsOf('container.cpu.time').length >= 20 ? true : null,
    );
    const span = (metric: string) => {
      const points = pointsOf(metric).slice(3);
      const [first, last] = [points[0], points.at(-1)];
      if (!first || !last) throw new Error(`no ${metric}`);
      return (Number(last.value) - Number(first.value)) / (last.time - first.time);
    };
    const together = span('container.cpu.time') + span('sculptor.runqueue.wait');
    t.true(Math.abs(together - 4) < 0.2, `${together} cores of four threads`);
    t.true(span('sculptor.runqueue.wait') > 1.5);
    const values = pointsOf('container.cpu.time').map(point => Number(point.value));
    t.deepEqual(
      values,
      [...values].sort((a, b) => a - b),
      'totals never fall',
    );

    const histogram = await eventually(
      'the latency histogram',
      5,
      () => pointsOf('sculptor.runqueue.latency').at(-1)?.value,
    );
    t.true(typeof histogram === 'object' && histogram.count > 100);
    t.true(pointsOf('sculptor.task.cpu.time').length >= 4);
    t.truthy(events.find(event => event.eventName === 'sculptor.topology'));

    await scene.end();
    await eventually('its end', 5, () => placements().find(placement => !placement.alive));
    t.is(agent.status().exports.lastFailure, null);
    t.deepEqual(
      Object.values(agent.status().lost).filter(count => count > 0),
      [],
    );
  } finally {
    await scene.end();
    await agent.stop();
    await receiver.stop();
    rmSync(run, { recursive: true });
  }
});
