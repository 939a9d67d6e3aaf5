import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { configSchema } from '../../src/contract/config.ts';
import { type OutgoingEvent, parseEvent } from '../../src/contract/events.ts';
import { attr, scopes } from '../../src/contract/metrics.ts';
import type { Mode } from '../../src/contract/policy.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { createEventsExporter } from '../../src/otlp/events-exporter.ts';
import { createMetricsExporter } from '../../src/otlp/metrics-exporter.ts';
import { generateKeys, signedEvent } from '../../src/otlp/signing.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';
import { writeMetrics } from '../../src/otlp/write-metrics.ts';
import type { ActionTimings } from '../../src/sculptor/apply.ts';
import { startSculptor } from '../../src/sculptor/sculptor.ts';
import { move, openCgroupLab } from '../sculptor/support/cgroup-lab.ts';
import { recommend } from '../sculptor/support/recommend.ts';
import { needs } from '../support/needs.ts';
import { ownUid, realTime, socketFolder, until } from '../support/sockets.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');

/** A sculptor on the real kernel and a real socket, an engine that signs, and no collector: the test is the route. */
async function startAll(t: ExecutionContext, change: Record<string, unknown> = {}) {
  const folder = socketFolder(t);
  const keys = generateKeys();
  const lab = openCgroupLab(t);
  const told: OutgoingEvent[] = [];
  const timings: ActionTimings[] = [];
  const config = configSchema.parse({
    sculptor: {
      listen: join(folder, 'sculptor.sock'),
      journal: join(folder, 'journal.db'),
      ...change,
    },
  });
  const sculptor = await startSculptor({
    config: config.sculptor,
    sockets: config.sockets,
    hostId: 'host-1',
    native: lab.native,
    roots: hostRoots,
    peerUid: ownUid,
    trustedKeys: [keys.publicKey],
    clock: realTime,
    say: (level, message) => t.log(level, message),
    timings: each => void timings.push(each),
    events: {
      emit: event => void told.push(event),
      stop: () => Promise.resolve(),
      counters: () => ({}),
    },
  });
  let stopped = false;
  const stop = async () => {
    if (!stopped) await sculptor.stop();
    stopped = true;
  };
  t.teardown(stop);
  const engine = createEventsExporter({
    endpoint: `unix://${config.sculptor.listen}`,
    scope: scopes.engine,
    resource: {},
    clock: realTime,
  });
  t.teardown(() => engine.stop());
  let sequence = 0;
  const stamped = (event: OutgoingEvent, mode: Mode): OutgoingEvent => ({
    ...event,
    attributes: { ...event.attributes, [attr.mode]: mode },
  });
  return {
    ...{ lab, sculptor, told, timings, stop, config },
    heartbeat: async (mode: Mode) => {
      sequence += 1;
      const created = Date.now() / 1000;
      const record = { hostId: 'host-1', created, epoch: 1_700_000_000_000, sequence };
      engine.emit(stamped(signedEvent('sculptor.heartbeat', record, keys.privateKey, 'x'), mode));
      await engine.flush();
    },
    recommend: async (beneficiary: string, moves: ReturnType<typeof move>[]) => {
      const record = recommend(Date.now() / 1000, beneficiary, moves);
      const event = signedEvent('sculptor.recommendation', record, keys.privateKey, 'x');
      engine.emit(stamped(event, 'enforce'));
      await engine.flush();
    },
    last: () => sculptor.actions()[0],
    /** Two points a second apart: half a core of wait. */
    contend: (id: string) => contend(t, `unix://${config.sculptor.listen}`, id),
  };
}

async function contend(t: ExecutionContext, endpoint: string, id: string): Promise<void> {
  const exporter = createMetricsExporter({ endpoint });
  t.teardown(() => exporter.stop());
  const resource = { [attr.instanceId]: id, [attr.hostId]: 'host-1' };
  const now = Date.now() / 1000;
  for (const second of [1, 0]) {
    const samples = (['container.cpu.time', 'sculptor.runqueue.wait'] as const).map(metric => ({
      ...{ metric, start: 1, value: 10 - 0.5 * second },
    }));
    const temporal = temporalityFrom(undefined);
    const telling = {
      ...{ scope: scopes.agent, resource, temporal },
      resolution: () => 'explicit' as const,
    };
    const answer = await exporter.export([writeMetrics(telling, samples, now - second)]);
    t.true(answer.ok, JSON.stringify(answer));
  }
}

test('over a real socket: a signed recommendation sets a weight, and a fallen mode gives it back', async t => {
  const all = await startAll(t);
  const id = all.lab.make('weight');
  await all.contend(id);
  await all.heartbeat('enforce');
  await all.recommend(id, [move(id, { weight: 800 })]);
  t.is(all.lab.read(id, 'cpu.shares'), '8192');
  t.is(all.last()?.state, 'observing');
  t.is(all.sculptor.status().mode, 'enforce');
  await all.heartbeat('observe');
  await until(() => all.lab.read(id, 'cpu.shares') === '1024');
  t.is(all.last()?.reason?.code, 'mode');
  const states = all.told.flatMap(event =>
    event.eventName === 'sculptor.action'
      ? parseEvent('sculptor.action', { ...event, time: 1, resource: {}, scope: '' }).state
      : [],
  );
  t.deepEqual(states, [
    ...['received', 'validated', 'admitted', 'snapshotted', 'applied', 'observing', 'restored'],
  ]);
  t.true(all.told.some(event => event.eventName === 'sculptor.policy'));
});

test('the ceiling, and the end of the sculptor, give everything back', async t => {
  const all = await startAll(t);
  const id = all.lab.make('ceiling');
  await all.contend(id);
  await all.heartbeat('enforce');
  await all.recommend(id, [move(id, { weight: 800 })]);
  t.is(all.lab.read(id, 'cpu.shares'), '8192');
  all.sculptor.setCeiling('observe');
  t.is(all.lab.read(id, 'cpu.shares'), '1024');
  t.is(all.sculptor.policy().ceiling, 'observe');
  all.sculptor.setCeiling('enforce');
  await all.recommend(id, [move(id, { weight: 800 })]);
  t.is(all.lab.read(id, 'cpu.shares'), '8192');
  await all.stop();
  t.is(all.lab.read(id, 'cpu.shares'), '1024');
  t.false(existsSync(all.config.sculptor.listen));
});

test('when the engine falls silent for the lease of the mode, the watchdog restores everything', async t => {
  const all = await startAll(t, { modeLeaseSeconds: 5 });
  const id = all.lab.make('silent');
  await all.contend(id);
  await all.heartbeat('enforce');
  await all.recommend(id, [move(id, { weight: 800 })]);
  t.is(all.lab.read(id, 'cpu.shares'), '8192');
  await until(() => all.lab.read(id, 'cpu.shares') === '1024', 7);
  t.is(all.last()?.reason?.code, 'no-heartbeat');
});

test('a thread that was moved twice still follows a later widening of its cpuset', async t => {
  const all = await startAll(t, { policy: { limits: { maxTouchedRatio: 1 } } });
  const id = all.lab.make('twice', ['cpu', 'cpuset']);
  const { pid } = await all.lab.spawn(id, ['cpu', 'cpuset']);
  all.lab.write(id, 'cpuset.cpus', '0');
  await all.contend(id);
  await all.heartbeat('enforce');
  for (const _ of [1, 2]) {
    await all.recommend(id, [move(id, { cpus: [0] }, [all.lab.thread(pid)])]);
    t.is(all.last()?.state, 'observing', JSON.stringify(all.last()?.reason));
    all.sculptor.setCeiling('observe');
    all.sculptor.setCeiling('enforce');
  }
  t.deepEqual(all.lab.native.getAffinity(pid), [0]);
  all.lab.write(id, 'cpuset.cpus', '0-1');
  t.deepEqual(all.lab.native.getAffinity(pid), [0, 1]);
});

const hundred = Array.from({ length: 100 }, () => 'sleep 600 &').join(' ');

test('an action over many tasks is set, read back and given back within the targets', async t => {
  const all = await startAll(t);
  const id = all.lab.make('many');
  await all.lab.spawn(
    id,
    ['cpu'],
    `for i in 1 2 3 4 5 6 7 8 9 10; do ${hundred} done; echo made; wait`,
  );
  await until(() => all.lab.read(id, 'tasks').split('\n').length >= 1001, 20);
  await all.contend(id);
  await all.heartbeat('enforce');
  await all.recommend(id, [move(id, { cpus: [1] })]);
  t.is(all.last()?.state, 'observing', JSON.stringify(all.last()?.reason));
  const [timing] = all.timings;
  t.log(timing);
  const tids = all.lab.read(id, 'tasks').split('\n').map(Number);
  t.true(tids.every(tid => all.lab.native.getAffinity(tid).join() === '1'));
  const start = performance.now();
  all.sculptor.setCeiling('observe');
  const rollbackSeconds = (performance.now() - start) / 1000;
  t.log({ rollbackSeconds });
  t.true(tids.every(tid => all.lab.native.getAffinity(tid).join() === '0,1'));
  // Four times the targets: this machine is shared, and the bench holds them.
  t.true(rollbackSeconds < 4);
  const {
    planSeconds = 9,
    journalSeconds = 9,
    applySeconds = 9,
    readBackSeconds = 9,
  } = timing ?? {};
  t.true(planSeconds + journalSeconds + applySeconds + readBackSeconds < 0.4);
});
