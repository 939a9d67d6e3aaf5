import { writeFileSync } from 'node:fs';
import { loadNative } from '../../src/linux/native.ts';
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
    // One memory node, or two that both CPUs may lie in: never more than all.
    for (const part of ['cpu', 'task'])
      t.true(
        last(`sculptor.${part}.node_migrations`, 'moved') <=
          last(`sculptor.${part}.migrations`, 'moved'),
      );

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
