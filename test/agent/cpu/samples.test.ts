import { isDeepStrictEqual } from 'node:util';
import test from 'ava';
import { createCpuSamples, createTaskSamples } from '../../../src/agent/cpu/samples.ts';
import type { HotTask } from '../../../src/agent/tasks/hot-tasks.ts';

const task: HotTask = {
  cgroupId: 1,
  tid: 5,
  tgid: 4,
  startTicks: 100,
  name: 'work',
  runNs: 1e9,
  waitNs: 2e9,
  throttledNs: 3e9,
  blockedNs: [4e9, 5e9, 6e9, 7e9],
  voluntarySwitches: 8,
  involuntarySwitches: 9,
  migrations: 10,
  nodeMigrations: 11,
  start: 1000,
  vcpu: null,
};

test('a task has its series, each named by what it is of', t => {
  const samples = createTaskSamples();
  samples.begin();
  const names = {
    'thread.id': 5,
    'thread.name': 'work',
    'process.pid': 4,
    'sculptor.task.start_ticks': 100,
  };
  const told = samples.of(task);
  t.deepEqual(
    told.map(({ metric, more, value }) => [metric, Object.values(more ?? {}), value]),
    [
      ['sculptor.task.cpu.time', [], 1],
      ['sculptor.task.runqueue.wait', [], 2],
      ['sculptor.task.throttled.time', [], 3],
      ['sculptor.task.offcpu.time', ['io'], 4],
      ['sculptor.task.offcpu.time', ['uninterruptible'], 5],
      ['sculptor.task.offcpu.time', ['lock'], 6],
      ['sculptor.task.offcpu.time', ['sleep'], 7],
      ['sculptor.task.offcpu.time', ['throttled'], 3],
      ['sculptor.task.context_switches', ['voluntary'], 8],
      ['sculptor.task.context_switches', ['involuntary'], 9],
      ['sculptor.task.migrations', [], 10],
      ['sculptor.task.node_migrations', [], 11],
    ],
  );
  t.true(told.every(({ attributes }) => isDeepStrictEqual(attributes, names)));
  t.true(told.every(({ task: of, start }) => of === '5@100' && start === 1000));
  t.is(new Set(told.map(({ metric, more }) => metric + JSON.stringify(more))).size, told.length);
});

test('names are those of the last reading while the task is who it was, and new ones when it is not', t => {
  const samples = createTaskSamples();
  const attributesOf = (one: HotTask) => {
    samples.begin();
    return samples.of(one).map(({ attributes }) => attributes);
  };
  const first = attributesOf(task);
  t.true(attributesOf({ ...task, runNs: 2e9 }).every((one, i) => one === first[i]));
  t.is(attributesOf({ ...task, name: 'other' })[0]?.['thread.name'], 'other');
  t.is(attributesOf({ ...task, vcpu: 3 })[0]?.['sculptor.vcpu.index'], 3);
  t.is(attributesOf({ ...task, startTicks: 200 })[3]?.['sculptor.task.start_ticks'], 200);
  samples.begin();
  samples.begin();
  t.not(samples.of(task)[0]?.attributes, first[0], 'who was not hot meanwhile is forgotten');
});

test('the time of a CPU does not fall: not where it was offline, nor where it was read a tick too late', t => {
  const samples = createCpuSamples();
  const idle = (...cpus: readonly (readonly [cpu: number, idleSeconds: number])[]) =>
    samples(
      cpus.map(([cpu, idleSeconds]) => ({ cpu, idleSeconds, stealSeconds: 1 })),
      5,
    )
      .filter(({ attributes }) => attributes?.['cpu.mode'] === 'idle')
      .map(({ attributes, value, start }) => [attributes?.['cpu.logical_number'], value, start]);
  t.deepEqual(idle([0, 100], [1, 200]), [
    [0, 100, 5],
    [1, 200, 5],
  ]);
  t.deepEqual(idle([0, 101]), [[0, 101, 5]]);
  // CPU 1 came back, and the kernel counts anew.
  t.deepEqual(idle([0, 100.75], [1, 0.5]), [
    [0, 101, 5],
    [1, 200, 5],
  ]);
  t.deepEqual(idle([0, 101.75], [1, 1.5]), [
    [0, 102, 5],
    [1, 201, 5],
  ]);
});
