import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { createProfiles } from '../../../src/agent/profiles/profiles.ts';
import type { ExponentialHistogram } from '../../../src/contract/telemetry.ts';
import type { Sample } from '../../../src/otlp/sample.ts';

const living = { instance: { id: '/a', kind: 'cgroup', name: 'a' }, start: 0 } as never;

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
