import { isDeepStrictEqual } from 'node:util';
import test from 'ava';
import {
  createCpuSamples,
  createTaskSamples,
  detailSamples,
  headlineSamples,
  preemptorSamples,
} from '../../../src/agent/cpu/samples.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { counterWords, layout } from '../../../src/agent/probes/sched-layout.ts';
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
    return samples.of(one)[0]?.attributes;
  };
  const first = attributesOf(task);
  t.is(attributesOf({ ...task, runNs: 2e9 }), first);
  for (const [change, key, value] of [
    [{ name: 'other' }, 'thread.name', 'other'],
    [{ vcpu: 3 }, 'sculptor.vcpu.index', 3],
    [{ startTicks: 200 }, 'sculptor.task.start_ticks', 200],
  ] as const) {
    attributesOf(task);
    t.is(attributesOf({ ...task, ...change })?.[key], value, key);
  }
  const last = attributesOf(task);
  samples.begin();
  t.not(attributesOf(task), last, 'who was not hot meanwhile is forgotten');
});

test('an instance has its headline series in seconds, from when its life began', t => {
  const totals = { runNs: 1e9, waitNs: 2e9, throttledNs: 3e9 };
  const told = headlineSamples({ totals, start: 5 } as unknown as LivingInstance);
  t.deepEqual(
    told.map(({ metric, start, value }) => [metric, start, value]),
    [
      ['container.cpu.time', 5, 1],
      ['sculptor.runqueue.wait', 5, 2],
      ['sculptor.cpu.throttled.time', 5, 3],
    ],
  );
});

test('each detail of an instance is told as what it is', t => {
  const counters = new Float64Array(counterWords);
  const put = (field: keyof typeof layout.totals, ...values: number[]) =>
    counters.set(values, layout.totals[field] / 8);
  put('throttledNs', 1e9);
  put('blockedNs', 2e9, 3e9, 4e9, 5e9);
  put('voluntarySwitches', 6);
  put('involuntarySwitches', 7);
  put('wakeups', 8);
  put('migrations', 9);
  put('nodeMigrations', 10);
  put('latencyCount', 4);
  put('latencySumNs', 2e9);
  put('slots', 0, 1, 3);
  const [latency, ...told] = detailSamples(counters, { userNs: 11e9, kernelNs: 12e9 }, 5);
  t.like(latency, { metric: 'sculptor.runqueue.latency', start: 5 });
  t.like(latency?.value, { count: 4, sum: 2, counts: [1, 3] });
  t.true(told.every(({ start }) => start === 5));
  t.deepEqual(
    told.map(({ metric, attributes, value }) => [
      metric,
      ...Object.values(attributes ?? {}),
      value,
    ]),
    [
      ['sculptor.cpu.time', 'user', 11],
      ['sculptor.cpu.time', 'kernel', 12],
      ['sculptor.offcpu.time', 'io', 2],
      ['sculptor.offcpu.time', 'uninterruptible', 3],
      ['sculptor.offcpu.time', 'lock', 4],
      ['sculptor.offcpu.time', 'sleep', 5],
      ['sculptor.offcpu.time', 'throttled', 1],
      ['sculptor.cpu.context_switches', 'voluntary', 6],
      ['sculptor.cpu.context_switches', 'involuntary', 7],
      ['sculptor.cpu.wakeups', 8],
      ['sculptor.cpu.migrations', 9],
      ['sculptor.cpu.node_migrations', 10],
    ],
  );
});

test('a preemptor’s series begins when it began to be counted, or with the life', t => {
  const wait = { preemptor: '/b', attributes: {}, ns: 2e9 };
  t.deepEqual(
    preemptorSamples(
      [
        { ...wait, start: 70 },
        { ...wait, start: null },
      ],
      5,
    ).map(({ start, value }) => [start, value]),
    [
      [70, 2],
      [5, 2],
    ],
  );
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

test('what a host kept from a CPU is told beside its idle time', t => {
  const times = [{ cpu: 3, idleSeconds: 100, stealSeconds: 7 }];
  t.deepEqual(
    createCpuSamples()(times, 5).map(({ attributes, value }) => [attributes?.['cpu.mode'], value]),
    [
      ['idle', 100],
      ['steal', 7],
    ],
  );
});
