import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MetricPoint } from '../../src/contract/telemetry.ts';
import { loadNative } from '../../src/linux/native.ts';
import { readCpuTimes } from '../../src/linux/procfs.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { readTopology } from '../../src/linux/topology.ts';
import { needs } from '../support/needs.ts';
import { eventually, stageScene } from '../support/scene.ts';
import { near } from '../support/sched-scene.ts';
import { coresOf, startTold } from '../support/told-agent.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
const moves = 40;

test('the series of instances and of their hot tasks say what workloads of known behaviour do', async t => {
  t.timeout(90_000);
  const told = await startTold({ profile: 'full' });
  const scene = stageScene('sculptor-metrics');
  const native = loadNative();
  const id = scene.id;
  /** What a series has counted since its start: the sum over its tasks where it is one of tasks. */
  const last = (metric: string, name: string, attribute?: string, value?: string): number => {
    const points = told
      .pointsOf(metric, id(name))
      .filter(({ attributes }) => !attribute || attributes[attribute] === value);
    const newest = new Map(points.map(point => [point.attributes['thread.id'], point]));
    return [...newest.values()].reduce((sum, point) => sum + Number(point.value), 0);
  };
  /** How fast a series has grown since its second point, a second: the sum over its tasks where it is one of tasks. */
  const rate = (metric: string, name: string, attribute = '', value = ''): number => {
    const points = told
      .pointsOf(metric, id(name))
      .filter(({ attributes }) => attribute === '' || attributes[attribute] === value);
    const tasks = Map.groupBy(points, ({ attributes }) => attributes['thread.id']);
    return [...tasks.values()].reduce((sum, of) => sum + coresOf(of, 1), 0);
  };
  const onHost = (metric: string) => told.pointsOf(metric, 'test-host');
  try {
    // A fifth of a CPU is what its quota leaves of it.
    scene.spawn('quota', 'spin');
    writeFileSync(`/sys/fs/cgroup/cpu${id('quota')}/cpu.cfs_quota_us`, '20000');
    scene.spawn('convoy', 'convoy', '--threads', '4');
    scene.spawn('sleeper', 'latency', '--period-us', '10000', '--burn-us', '100');
    const forked = scene.spawn('forked', 'vfork', '--period-us', '100000').pid;
    const moved = scene.spawn('moved', 'spin').pid ?? 0;
    await eventually('the first details of all', 15, () =>
      ['quota', 'convoy', 'sleeper', 'moved'].every(
        name => told.pointsOf('sculptor.task.cpu.time', id(name)).length > 0,
      )
        ? true
        : null,
    );
    for (let i = 0; i < moves; i += 1) {
      native.setAffinity(Int32Array.of(moved), Int32Array.of(i % 2));
      await new Promise(resolve => setTimeout(resolve, 50));
    }
    await eventually('five seconds of throttling', 40, () =>
      last('sculptor.task.throttled.time', 'quota') > 5 ? true : null,
    );
    const cpusBefore = readCpuTimes(hostRoots);
    // The next export tells all of one instant.
    const [seen] = [told.pointsOf('sculptor.task.cpu.time', id('moved')).length];
    await eventually('one more export', 10, () =>
      told.pointsOf('sculptor.task.cpu.time', id('moved')).length > seen ? true : null,
    );
    const cpusAfter = readCpuTimes(hostRoots);

    const throttledByCgroup =
      Number(/^throttled_time (\d+)$/m.exec(scene.read('quota', 'cpu.stat'))?.[1]) / 1e9;
    const quota = {
      ran: last('container.cpu.time', 'quota'),
      throttled: last('sculptor.cpu.throttled.time', 'quota'),
      ofTask: last('sculptor.task.throttled.time', 'quota'),
      offCpu: last('sculptor.offcpu.time', 'quota', 'sculptor.reason', 'throttled'),
      taskOffCpu: last('sculptor.task.offcpu.time', 'quota', 'sculptor.reason', 'throttled'),
    };
    t.log(JSON.stringify(quota));
    // What is told of the instance and of its task is read some ms apart.
    for (const same of [quota.ofTask, quota.offCpu, quota.taskOffCpu])
      near(t, same, quota.throttled, 0.15, 'same');
    const ofQuota = ['container.cpu.time', 'sculptor.cpu.throttled.time', 'sculptor.runqueue.wait'];
    const [run = 0, throttled = 0, wait = 0] = ofQuota.map(metric => rate(metric, 'quota'));
    near(t, run, 0.2, 0.03, 'a fifth of a CPU');
    near(t, run + throttled + wait, 1, 0.03, 'of one task');
    near(t, quota.throttled, throttledByCgroup, 0.25, 'throttled by cpu.stat');
    const ofTask = ['cpu.time', 'throttled.time', 'runqueue.wait'].map(what =>
      rate(`sculptor.task.${what}`, 'quota'),
    );
    for (const [i, whole] of [run, throttled, wait].entries())
      near(t, ofTask[i] ?? 0, whole, 0.03, `${ofQuota[i]} of its task`);

    // Of four threads one has the lock; the one that began them sleeps.
    for (const metric of ['sculptor.offcpu.time', 'sculptor.task.offcpu.time']) {
      near(t, rate(metric, 'convoy', 'sculptor.reason', 'lock'), 3, 0.2, `${metric}: lock`);
      near(t, rate(metric, 'convoy', 'sculptor.reason', 'sleep'), 1, 0.2, `${metric}: sleep`);
    }
    // The parent of a vfork(2) waits within the kernel for its child, which sleeps.
    for (const reason of ['uninterruptible', 'sleep', 'io', 'lock']) {
      const expected = reason === 'uninterruptible' || reason === 'sleep' ? 1 : 0;
      const both = rate('sculptor.offcpu.time', 'forked', 'sculptor.reason', reason);
      near(t, both, expected, 0.02, `vfork: ${reason}`);
      const ofParent = told
        .pointsOf('sculptor.task.offcpu.time', id('forked'))
        .filter(({ attributes }) => attributes['thread.id'] === forked)
        .filter(({ attributes }) => attributes['sculptor.reason'] === reason);
      const waits = reason === 'uninterruptible' ? 1 : 0;
      near(t, coresOf(ofParent, 1), waits, 0.02, `vfork, its parent: ${reason}`);
    }

    const type = 'process.context_switch.type';
    for (const metric of ['sculptor.cpu.context_switches', 'sculptor.task.context_switches']) {
      const voluntary = last(metric, 'sleeper', type, 'voluntary');
      const involuntary = last(metric, 'moved', type, 'involuntary');
      t.true(voluntary > 200, `${metric}: ${voluntary} sleeps of 10 ms in five seconds or more`);
      t.true(involuntary >= moves / 2, `${metric}: ${involuntary}`);
      t.true(last(metric, 'moved', type, 'voluntary') < 50, 'a spinner does not sleep');
    }
    // It sleeps a hundred times a second, or less often where it wakes late.
    const wakeups = rate('sculptor.cpu.wakeups', 'sleeper');
    t.true(wakeups > 70 && wakeups < 101, `${wakeups} wake-ups a second`);
    for (const part of ['cpu', 'task'])
      near(
        t,
        rate(`sculptor.${part}.context_switches`, 'sleeper', type, 'voluntary'),
        wakeups,
        2,
        part,
      );
    // Where its CPU was idle, it waited for nobody but that.
    const forNobody = last(
      'sculptor.runqueue.wait.by_preemptor',
      'sleeper',
      'sculptor.preemptor',
      'none',
    );
    t.true(forNobody > 0 && forNobody <= last('sculptor.runqueue.wait', 'sleeper'), `${forNobody}`);
    for (const metric of ['sculptor.cpu.migrations', 'sculptor.task.migrations']) {
      const count = last(metric, 'moved');
      t.true(count >= moves - 2 && count <= moves + 10, `${metric}: ${count}`);
    }
    const moving = ['sculptor.task.cpu.time', 'sculptor.task.runqueue.wait'];
    const [ran = 0, waits = 0] = moving.map(metric => rate(metric, 'moved'));
    near(t, ran, rate('container.cpu.time', 'moved'), 0.03, 'its task runs as it does');
    near(t, ran + waits, 1, 0.03, 'a spinner runs or waits');
    // The test below has two nodes, wherever it runs.
    if (readTopology(hostRoots, '').nodes.length === 1)
      for (const metric of ['sculptor.cpu.node_migrations', 'sculptor.task.node_migrations']) {
        t.true(told.pointsOf(metric, id('moved')).length > 0, metric);
        t.is(last(metric, 'moved'), 0, metric);
      }

    const cpus = new Set(onHost('system.cpu.time').map(p => p.attributes['cpu.logical_number']));
    t.is(cpus.size, navigator.hardwareConcurrency);
    for (const [i, { cpu, idleSeconds, stealSeconds }] of cpusBefore.entries()) {
      const pointsOf = (mode: string) =>
        onHost('system.cpu.time')
          .filter(({ attributes }) => attributes['cpu.logical_number'] === cpu)
          .filter(({ attributes }) => attributes['cpu.mode'] === mode);
      const between = (mode: string, least: number, most = Number.NaN) => {
        const told = Number(pointsOf(mode).at(-1)?.value);
        t.true(told >= least && told <= most, `CPU ${cpu}, ${mode}: ${least} ${told} ${most}`);
      };
      between('idle', idleSeconds, cpusAfter[i]?.idleSeconds);
      between('steal', stealSeconds, cpusAfter[i]?.stealSeconds);
      // Where the spinner was moved last.
      if (cpu === 1)
        near(t, coresOf(pointsOf('idle').slice(-4), 0), 0, 0.05, 'a CPU that is in use');
    }
    const reasons = onHost('sculptor.agent.events.lost').map(p => p.attributes['sculptor.reason']);
    t.deepEqual([...new Set(reasons)].sort(), Object.keys(told.agent.status().lost).sort());
    const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
    const explained = (reason: string) =>
      page.includes(`| \`${reason.replace(/^[a-z]+_failed_reads$/, 'failed_reads')}\` |`);
    t.deepEqual(
      Object.keys(told.agent.status().lost).filter(reason => !explained(reason)),
      [],
    );
    t.true(onHost('sculptor.agent.events.recovered').length > 0, 'recovered');
    const waited = onHost('sculptor.cpu.runqueue.wait').slice(-cpus.size);
    const waitedSeconds = waited.reduce((sum, point) => sum + Number(point.value), 0);
    t.true(waitedSeconds > 0.3, `${waitedSeconds} s of wait on ${cpus.size} CPUs`);
    const grown = (metric: string) => {
      const [first, newest] = [onHost(metric)[0], onHost(metric).at(-1)];
      const seconds = (newest?.time ?? 0) - (first?.time ?? 0);
      return { seconds, by: Number(newest?.value) - Number(first?.value) };
    };
    // Each of its sleeps is a switch from it, a wake-up, and a switch to it.
    const events = grown('sculptor.agent.events');
    t.true(events.by > 3 * 70 * events.seconds, JSON.stringify(events));
    t.true(events.by < 1e5 * events.seconds, JSON.stringify(events));
    const collecting = grown('sculptor.agent.collect.time');
    const share = collecting.by / collecting.seconds;
    t.true(share > 1e-4 && share < 0.5, JSON.stringify(collecting));
    const entries = onHost('sculptor.agent.map.entries').findLast(
      ({ attributes }) => attributes['sculptor.agent.map'] === 'instances',
    );
    t.true(Number(entries?.value) >= 4, `${entries?.value} instances in the map`);
    // On a busy machine one may be under way yet when the next is due.
    const exportsLost = onHost('sculptor.agent.exports.lost')
      .filter(({ attributes }) => attributes['sculptor.reason'] !== 'busy')
      .map(({ value }) => value);
    t.deepEqual([...new Set(exportsLost)], [0]);
    t.is(onHost('sculptor.agent.instances.uncounted').at(-1)?.value, 0);
  } finally {
    await scene.end();
    await told.stop();
  }
});

test('of two neighbours that run 3:1 the series of whom one waits for read 3:1', async t => {
  t.timeout(90_000);
  const told = await startTold({ profile: 'full' });
  const scene = stageScene('sculptor-pair');
  const [victim, thrice, once] = ['victim', 'thrice', 'once'].map(scene.id) as [
    string,
    string,
    string,
  ];
  const all = () => told.pointsOf('sculptor.runqueue.wait', victim);
  const behind = (preemptor: string) =>
    told
      .pointsOf('sculptor.runqueue.wait.by_preemptor', victim)
      .filter(({ attributes }) => attributes['sculptor.preemptor'] === preemptor);
  /** Of one reading, since `from`: what it waited for each of them, and in all. */
  const waits = (from: number) => {
    const heavy = behind(thrice).findLast(({ time }) => time > from);
    const at = (points: MetricPoint[]) => points.find(({ time }) => time === heavy?.time);
    const [light, whole] = [at(behind(once)), at(all())];
    if (!heavy || !light || !whole) return null;
    return [heavy, light, whole].map(({ value }) => Number(value)) as [number, number, number];
  };
  try {
    const pids = ['victim', 'thrice', 'once'].map(name => scene.spawn(name, 'spin').pid ?? 0);
    scene.write('thrice', 'cpu.shares', '3072');
    loadNative().setAffinity(Int32Array.from(pids), Int32Array.of(0));
    const pinned = Date.now() / 1000;
    const before = await eventually('a reading of both since they share a CPU', 20, () =>
      waits(pinned + 0.5),
    );
    const grown = await eventually('six seconds for the heavier', 60, () => {
      const now = waits(pinned);
      return now && now[0] - before[0] > 6 ? now.map((value, i) => value - (before[i] ?? 0)) : null;
    });
    const [heavy = 0, light = 0, whole = 0] = grown;
    const values = `${heavy} s and ${light} s of ${whole} s`;
    t.log(values);
    near(t, heavy / light, 3, 0.3, values);
    t.true((heavy + light) / whole > 0.8 && heavy + light < 1.01 * whole, values);
  } finally {
    await scene.end();
    await told.stop();
  }
});

test('what is moved to the other CPU has moved to the other memory node, where the kernel says that CPU is of one', async t => {
  t.timeout(60_000);
  const sys = mkdtempSync(join(tmpdir(), 'sculptor-two-nodes-'));
  const told = await startTold({ profile: 'full' }, { ...hostRoots, sys: twoNodes(sys) });
  const scene = stageScene('sculptor-nodes');
  const native = loadNative();
  const id = scene.id('moved');
  const newest = (metric: string) => Number(told.pointsOf(metric, id).at(-1)?.value);
  try {
    const seven = Array.from({ length: 7 }, (_, nth) => scene.spawn(`seven-${nth}`, 'spin'));
    native.setAffinity(
      Int32Array.from(seven, ({ pid }) => pid ?? 0),
      Int32Array.of(0),
    );
    const moved = scene.spawn('moved', 'spin').pid ?? 0;
    for (let i = 0; i < moves; i += 1) {
      native.setAffinity(Int32Array.of(moved), Int32Array.of(i % 2));
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    for (const part of ['cpu', 'task']) {
      const all = await eventually('all migrations', 15, () => {
        const count = newest(`sculptor.${part}.migrations`);
        return count >= moves - 2 ? count : null;
      });
      // On more than two CPUs it may have begun on any.
      const across = newest(`sculptor.${part}.node_migrations`);
      t.true(across <= all && across >= moves - 2, `${part}: ${across} of ${all}`);
    }
    // Of six neighbours of one weight that it waits for as long, and who else was there, five have a name.
    const waitsFor = (preemptor: string) =>
      Number(
        told
          .pointsOf('sculptor.runqueue.wait.by_preemptor', scene.id('seven-0'))
          .findLast(({ attributes }) => attributes['sculptor.preemptor'] === preemptor)?.value ?? 0,
      );
    await eventually('that it waited for others too', 15, () =>
      waitsFor('other') > 0.1 ? true : null,
    );
  } finally {
    await scene.end();
    await told.stop();
    rmSync(sys, { recursive: true });
  }
});

/** Makes `folder` the kernel's own /sys, but that CPU 1 is of a memory node of its own. */
function twoNodes(folder: string): string {
  const linkAllBut = (under: string, other: string): void => {
    mkdirSync(`${folder}${under}`, { recursive: true });
    for (const name of readdirSync(`/sys${under}`))
      if (name !== other) symlinkSync(`/sys${under}/${name}`, `${folder}${under}/${name}`);
  };
  linkAllBut('', 'devices');
  linkAllBut('/devices', 'system');
  linkAllBut('/devices/system', 'node');
  const others = readTopology(hostRoots, '').cpus.filter(({ id }) => id !== 1);
  const cpus = [others.map(({ id }) => id).join(), '1'];
  for (const [node, cpulist] of cpus.entries()) {
    const at = `${folder}/devices/system/node/node${node}`;
    mkdirSync(at, { recursive: true });
    writeFileSync(`${at}/cpulist`, cpulist);
    writeFileSync(`${at}/distance`, node === 0 ? '10 20' : '20 10');
  }
  return folder;
}
