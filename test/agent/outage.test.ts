import test from 'ava';
import { createEventsExporter } from '../../src/otlp/events-exporter.ts';
import type { ExportClient } from '../../src/otlp/export-client.ts';
import { stageRounds } from './support/rounds-stage.ts';

/** An hour is an hour of the stepped clock; read slowly, so that it does not take one. */
const config = {
  readIntervalSeconds: 2,
  headlineIntervalSeconds: 10,
  detailIntervalSeconds: 60,
  fastInstances: 0,
};
const before = 600;
const away = 3600;
const after = 300;

/** Ten minutes of an agent, an hour without a collector, and some minutes with it again. */
async function outage(agent: ReturnType<typeof stageRounds>) {
  const seconds = (n: number) => agent.read(n / config.readIntervalSeconds);
  agent.add('/steady', { used: 0.25, wait: 0.05 });
  agent.add('/leaves', { used: 0.1, wait: 0 });
  await seconds(before);
  agent.setFails(true);
  await seconds(away / 2);
  agent.remove('/leaves');
  agent.add('/comes', { used: 0.1, wait: 0 });
  await seconds(away / 2);
  agent.setFails(false);
  await seconds(after);
  const delivered = (metric: string, instance: string) =>
    agent.valuesOf(metric, instance).filter(({ at }) => at < before || at >= before + away);
  return { delivered };
}

const epoch = 1_700_000_000;

test('after an hour without a collector counters go on where they are, and the hour is a gap', async t => {
  const agent = stageRounds(t, { config });
  const { delivered } = await outage(agent);
  for (const metric of ['container.cpu.time', 'sculptor.runqueue.wait']) {
    const points = delivered(metric, '/steady');
    const starts = new Set(points.map(({ start }) => start));
    t.is(starts.size, 1, `${metric} began once`);
    // Each is stamped with the time it was read at: nothing is told late, and nothing is made up for the hour.
    for (const { at, time } of points) t.is(time, epoch + at);
    const gaps = points.slice(1).map(({ at }, i) => at - (points[i]?.at ?? 0));
    t.is(gaps.filter(gap => gap > 2 * config.headlineIntervalSeconds).length, 1);
    t.true(Math.max(...gaps) >= away);
    const values = points.map(({ value }) => Number(value));
    t.true(values.every((value, i) => value >= (values[i - 1] ?? 0)));
    const cores = metric === 'container.cpu.time' ? 0.25 : 0.05;
    const [first, last] = [points[0], points.at(-1)];
    const elapsed = (last?.at ?? 0) - (first?.at ?? 0);
    t.is(((values.at(-1) ?? 0) - (values[0] ?? 0)).toFixed(6), (cores * elapsed).toFixed(6));
  }
  t.is(delivered('container.cpu.time', '/leaves').filter(({ at }) => at >= before).length, 0);
  t.true(delivered('container.cpu.time', '/comes').length > 0);
});

test('delta: what was not delivered for an hour is in the first point after it, whose interval says so', async t => {
  const agent = stageRounds(t, { config, temporality: 'delta' });
  const { delivered } = await outage(agent);
  const points = delivered('container.cpu.time', '/steady');
  const longest = points.filter(({ start, time }) => time - start >= away);
  t.is(longest.length, 1);
  const total = points.reduce((sum, { value }) => sum + Number(value), 0);
  t.is(total.toFixed(6), (0.25 * ((points.at(-1)?.at ?? 0) + 2)).toFixed(6));
});

test('events that nobody takes for an hour are few, of the last minutes, and all others are counted', async t => {
  const agent = stageRounds(t, { config });
  let dead = true;
  const sizes: number[] = [];
  const client: ExportClient = {
    send: async request => {
      if (dead) return { kind: 'retry', afterSeconds: null, reason: 'UNAVAILABLE' };
      sizes.push(request.byteLength);
      return { kind: 'ok' };
    },
    close: () => undefined,
  };
  const events = createEventsExporter({
    ...{ endpoint: 'unix:///nowhere', scope: 'test', resource: {}, clock: agent.clock, client },
  });
  let emitted = 0;
  agent.listen(event => {
    emitted += 1;
    events.emit(event);
  });
  for (let i = 0; i < 100; i += 1) agent.add(`/i${i}`);
  const settled = () =>
    Object.entries(events.counters())
      .filter(([count]) => count === 'sent' || count.startsWith('lost.'))
      .reduce((sum, [, n]) => sum + n, 0);
  let most = 0;
  for (let minute = 0; minute < 60; minute += 1) {
    await agent.read(30);
    most = Math.max(most, emitted - settled());
  }
  t.true(emitted > 5000, `${emitted} events`);
  // A hundred placements and a topology a minute, of the last two.
  t.true(most <= 4 * 101, `${most} waited`);
  t.is(events.counters().sent, undefined);
  dead = false;
  await agent.read(60);
  t.is(emitted - settled(), 0);
  t.true((events.counters().sent ?? 0) <= 5 * 101);
  t.true(sizes.length > 0);
});
