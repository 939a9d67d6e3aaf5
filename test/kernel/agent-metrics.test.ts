import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { readTopology } from '../../src/linux/topology.ts';
import { needs } from '../support/needs.ts';
import { eventually, stageScene } from '../support/scene.ts';
import { startTold } from '../support/told-agent.ts';

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
  const onHost = (metric: string) => told.pointsOf(metric, 'test-host');
  try {
    // A fifth of a CPU is what its quota leaves of it.
    scene.spawn('quota', 'spin');
    writeFileSync(`/sys/fs/cgroup/cpu${id('quota')}/cpu.cfs_quota_us`, '20000');
    scene.spawn('convoy', 'convoy', '--threads', '4');
    scene.spawn('sleeper', 'latency', '--period-us', '10000', '--burn-us', '100');
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
    await eventually('ten seconds of throttling', 40, () =>
      last('sculptor.task.throttled.time', 'quota') > 5 ? true : null,
    );
    // The next export tells all of one instant.
    const [seen] = [told.pointsOf('sculptor.task.cpu.time', id('moved')).length];
    await eventually('one more export', 10, () =>
      told.pointsOf('sculptor.task.cpu.time', id('moved')).length > seen ? true : null,
    );

    const quota = {
      ran: last('container.cpu.time', 'quota'),
      throttled: last('sculptor.cpu.throttled.time', 'quota'),
      ofTask: last('sculptor.task.throttled.time', 'quota'),
      offCpu: last('sculptor.offcpu.time', 'quota', 'sculptor.reason', 'throttled'),
    };
    t.true(quota.throttled > 2 * quota.ran, JSON.stringify(quota));
    for (const same of [quota.ofTask, quota.offCpu])
      t.true(Math.abs(same - quota.throttled) < 0.15 * quota.throttled + 1, JSON.stringify(quota));

    // Of four threads one has the lock; the one that began them sleeps.
    for (const metric of ['sculptor.offcpu.time', 'sculptor.task.offcpu.time']) {
      const locked = last(metric, 'convoy', 'sculptor.reason', 'lock');
      const slept = last(metric, 'convoy', 'sculptor.reason', 'sleep');
      t.true(locked > 5 && locked > 2 * slept, `${metric}: ${locked} s lock, ${slept} s sleep`);
    }

    const type = 'process.context_switch.type';
    for (const metric of ['sculptor.cpu.context_switches', 'sculptor.task.context_switches']) {
      const voluntary = last(metric, 'sleeper', type, 'voluntary');
      const involuntary = last(metric, 'moved', type, 'involuntary');
      t.true(voluntary > 200, `${metric}: ${voluntary} sleeps of 10 ms in five seconds or more`);
      t.true(involuntary >= moves / 2, `${metric}: ${involuntary}`);
      t.true(last(metric, 'moved', type, 'voluntary') < 50, 'a spinner does not sleep');
    }
    t.true(last('sculptor.cpu.wakeups', 'sleeper') > 200);
    for (const metric of ['sculptor.cpu.migrations', 'sculptor.task.migrations'])
      t.true(last(metric, 'moved') >= moves - 2, `${metric}: ${last(metric, 'moved')}`);
    // The test below has two nodes, wherever it runs.
    if (readTopology(hostRoots, '').nodes.length === 1)
      for (const metric of ['sculptor.cpu.node_migrations', 'sculptor.task.node_migrations']) {
        t.true(told.pointsOf(metric, id('moved')).length > 0, metric);
        t.is(last(metric, 'moved'), 0, metric);
      }

    const cpus = new Set(onHost('system.cpu.time').map(p => p.attributes['cpu.logical_number']));
    t.is(cpus.size, navigator.hardwareConcurrency);
    const waited = onHost('sculptor.cpu.runqueue.wait').slice(-cpus.size);
    t.true(waited.reduce((sum, point) => sum + Number(point.value), 0) > 1);
    for (const metric of ['sculptor.agent.events', 'sculptor.agent.collect.time'])
      t.true(Number(onHost(metric).at(-1)?.value) > Number(onHost(metric)[0]?.value), metric);
    const entries = onHost('sculptor.agent.map.entries').findLast(
      ({ attributes }) => attributes['sculptor.agent.map'] === 'instances',
    );
    t.true(Number(entries?.value) >= 4);
    const exportsLost = onHost('sculptor.agent.exports.lost');
    t.true(exportsLost.length > 0 && exportsLost.every(({ value }) => value === 0));
    t.is(onHost('sculptor.agent.instances.uncounted').at(-1)?.value, 0);
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
