import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { createProfiles } from '../../../src/agent/profiles/profiles.ts';
import { attr } from '../../../src/contract/metrics.ts';
import type { ExponentialHistogram } from '../../../src/contract/telemetry.ts';
import type { Sample } from '../../../src/otlp/sample.ts';

const living = { instance: { id: '/a', kind: 'cgroup', name: 'a' }, start: 0 } as never;
const bornLater = { instance: { id: '/b', kind: 'cgroup', name: 'b' }, start: 18 } as never;

function latencyOf(count: number): ExponentialHistogram {
  const common = { kind: 'exponential', scale: 2, zeroCount: 0, offset: -40 } as const;
  return { ...common, count, sum: count / 1000, counts: [count] };
}

test('of a long window few readings are kept, and it is at most a little longer than asked for', async t => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const profiles = createProfiles('h', { profileWindowSeconds: 600, readIntervalSeconds: 0.2 });
  const refs: WeakRef<object>[] = [];
  for (let time = 10; time <= 2000; time += 10) {
    const latency = latencyOf(time);
    refs.push(new WeakRef(latency));
    const reading = profiles.begin(time);
    reading.add(living, [
      { metric: 'container.cpu.time', start: 0, value: time / 2 },
      { metric: 'sculptor.runqueue.latency', start: 0, value: latency },
    ]);
    reading.end();
    if (time < 800) continue;
    const profile = profiles.of('/a');
    const seconds = profile?.windowSeconds ?? 0;
    t.true(seconds >= 600 && seconds <= 710, `${seconds} s`);
    const series = profile?.series[0];
    t.is(series?.type === 'counter' ? series.perSecond : null, 0.5);
  }
  await turn();
  collect();
  const held = refs.filter(ref => ref.deref() !== undefined).length;
  t.true(held <= 8, `${held} readings`);
});

function taker(profileWindowSeconds: number) {
  const profiles = createProfiles('h', { profileWindowSeconds, readIntervalSeconds: 0.2 });
  return {
    profiles,
    take: (time: number, ...told: [never, readonly Sample[]][]) => {
      const reading = profiles.begin(time);
      for (const [one, samples] of told) reading.add(one, samples);
      reading.end();
    },
  };
}
const cpuTime = (start: number, value: number): Sample => ({
  metric: 'container.cpu.time',
  start,
  value,
});

test('a counter that began within the window has grown by all of it; of one that is older, and not known from before, it is not known', t => {
  const { profiles, take } = taker(10);
  const counters = (...told: [name: string, start: number, value: number][]): Sample[] =>
    told.map(([name, start, value]) => ({ ...cpuTime(start, value), attributes: { name } }));
  take(10, [living, counters(['known', 0, 5], ['begun anew', 0, 8])]);
  take(20, [
    living,
    counters(['known', 0, 9], ['begun anew', 15, 6], ['new', 10, 3], ['older', 9, 4]),
  ]);
  const profile = profiles.of('/a');
  t.like(profile, { hostId: 'h', time: 20, windowSeconds: 10 });
  t.deepEqual(
    profile?.series.map(series => series.type === 'counter' && [series.delta, series.perSecond]),
    [
      [4, 0.4],
      [6, 0.6],
      [3, 0.3],
      [null, null],
    ],
  );
});

test('the window of who is younger than it began with its life, and later with what was read of it first', t => {
  const { profiles, take } = taker(30);
  const seen = (id: string) => {
    const profile = profiles.of(id);
    const series = profile?.series[0];
    return [profile?.windowSeconds, series?.type === 'counter' && series.delta];
  };
  take(10, [living, [cpuTime(0, 1)]]);
  t.deepEqual(seen('/a'), [10, 1]);
  take(20, [living, [cpuTime(0, 4)]], [bornLater, [cpuTime(18, 1)]]);
  t.deepEqual(
    [seen('/a'), seen('/b')],
    [
      [10, 3],
      [2, 1],
    ],
  );
  take(30, [living, [cpuTime(0, 5)]], [bornLater, [cpuTime(18, 7)]]);
  t.deepEqual(
    [seen('/a'), seen('/b')],
    [
      [20, 4],
      [10, 6],
    ],
  );
  t.deepEqual(
    profiles.all().map(({ instance }) => instance.id),
    ['/a', '/b'],
  );
  take(40, [living, [cpuTime(0, 5)]]);
  t.is(profiles.of('/b'), null, 'it is not there any more');
});

test('a reading that comes a little early is as old as the window', t => {
  const { profiles, take } = taker(10);
  for (const time of [1, 11, 20.95]) take(time, [living, [cpuTime(0, time)]]);
  t.is(profiles.of('/a')?.windowSeconds.toFixed(2), '9.95');
});

test('after the clock was set back no window is of less than nothing, and it is soon as long as it was', t => {
  const { profiles, take } = taker(10);
  take(1000, [living, [cpuTime(0, 500)]]);
  take(400, [living, [cpuTime(0, 501)]]);
  t.like(profiles.of('/a'), { windowSeconds: 0, series: [{ delta: 1, perSecond: null }] });
  for (let time = 402; time <= 420; time += 2) take(time, [living, [cpuTime(0, time)]]);
  const seconds = profiles.of('/a')?.windowSeconds ?? 0;
  t.true(seconds >= 10 && seconds <= 14, `${seconds} s`);
});

test('what a reading has no more of is not told, and a gauge as it is', t => {
  const { profiles, take } = taker(10);
  const usage: Sample = { metric: 'container.memory.usage', start: 0, value: 7 };
  take(10, [living, [usage, cpuTime(0, 3)]]);
  take(20, [living, [{ ...usage, value: 4 }]]);
  t.like(profiles.of('/a')?.series, [{ type: 'gauge', value: 4 }]);
  t.is(profiles.of('/a')?.series.length, 1);
});

test('series of one task, and of no task, are told apart by their names and what they are parts of', t => {
  const { profiles, take } = taker(10);
  const samples = (values: readonly number[]): Sample[] => {
    const [run = 0, wait = 0, taskRun = 0, taskWait = 0, io = 0, lock = 0] = values;
    const task = { task: '7@1', attributes: { 'thread.id': 7 }, start: 0 };
    const blocked = { ...task, metric: 'sculptor.task.offcpu.time' } as const;
    return [
      cpuTime(0, run),
      { metric: 'sculptor.runqueue.wait', start: 0, value: wait },
      { ...task, metric: 'sculptor.task.cpu.time', value: taskRun },
      { ...task, metric: 'sculptor.task.runqueue.wait', value: taskWait },
      { ...blocked, more: { reason: 'io' }, value: io },
      { ...blocked, more: { reason: 'lock' }, value: lock },
    ];
  };
  take(10, [living, samples([1, 2, 3, 4, 5, 6])]);
  const [run, wait, ...ofTask] = samples([2, 4, 6, 8, 10, 12]);
  if (!run || !wait) throw new Error('none');
  take(20, [living, [wait, run, ...ofTask.reverse()]]);
  t.deepEqual(
    profiles.of('/a')?.series.map(series => series.type === 'counter' && series.delta),
    [2, 1, 6, 5, 4, 3],
  );
});

test('of a histogram the window has its own count, sum and quantiles, and a sum that nobody knows is none', t => {
  const { profiles, take } = taker(10);
  const latency = (counts: number[], sum: number): Sample => {
    const count = counts.reduce((all, one) => all + one, 0);
    return {
      metric: 'sculptor.runqueue.latency',
      start: 0,
      value: { kind: 'exponential', scale: 0, zeroCount: 0, offset: 0, counts, count, sum },
    };
  };
  take(10, [living, [latency([50, 0, 0], 2)]]);
  take(20, [living, [latency([110, 35, 5], 7)]]);
  t.like(profiles.of('/a')?.series[0], {
    type: 'histogram',
    total: { count: 150, sum: 7 },
    delta: { count: 100, sum: 5, p50: 2, p90: 4, p99: 8 },
  });
  take(30, [living, [latency([110, 35, 6], Number.NaN)]]);
  t.like(profiles.of('/a')?.series[0], {
    total: { count: 151, sum: null },
    delta: { count: 1, sum: null, p50: 8, p90: 8, p99: 8 },
  });
});

test('a task that is given another name goes on, and one that has its tid is another', t => {
  const { profiles, take } = taker(10);
  const task = (startTicks: number, name: string, start: number, value: number): Sample => ({
    metric: 'sculptor.task.cpu.time',
    task: `7@${startTicks}`,
    attributes: { 'thread.id': 7, 'thread.name': name, [attr.taskStartTicks]: startTicks },
    start,
    value,
  });
  const delta = () => {
    const series = profiles.of('/a')?.series[0];
    return series?.type === 'counter' ? series.delta : null;
  };
  take(10, [living, [task(1, 'before', 5, 2)]]);
  take(20, [living, [task(1, 'after', 5, 6)]]);
  t.is(delta(), 4);
  take(30, [living, [task(9, 'after', 5, 8)]]);
  t.is(delta(), null);
});

test('a series is found again in an earlier reading wherever it stood there, and one that is new has no change', t => {
  const profiles = createProfiles('h', { profileWindowSeconds: 10, readIntervalSeconds: 0.2 });
  const take = (time: number, samples: readonly Sample[]) => {
    const reading = profiles.begin(time);
    reading.add(living, samples);
    reading.end();
  };
  const task = (tid: number, value: number): Sample => ({
    metric: 'sculptor.task.cpu.time',
    task: `${tid}@7`,
    attributes: { 'thread.id': tid },
    start: 0,
    value,
  });
  const waits = (count: number): Sample => ({
    metric: 'sculptor.runqueue.latency',
    start: 0,
    value: latencyOf(count),
  });
  take(10, [task(1, 5), waits(3), task(2, 1)]);
  take(20, [task(1, 5), waits(3), task(2, 1)]);
  take(30, [task(2, 4), task(3, 9), waits(8)]);
  const deltas = profiles.of('/a')?.series.map(series => {
    if (series.type === 'gauge') return null;
    return series.type === 'histogram' ? (series.delta?.count ?? null) : series.delta;
  });
  t.deepEqual(deltas, [3, null, 5]);
});

test('a reading that is not ended is none', t => {
  const profiles = createProfiles('h', { profileWindowSeconds: 10, readIntervalSeconds: 0.2 });
  profiles.begin(10).add(living, [{ metric: 'container.cpu.time', start: 0, value: 1 }]);
  t.deepEqual(profiles.all(), []);
});
