import test from 'ava';
import type { RunOptions } from '../../../src/agent/bpftrace/run.ts';
import { startSchedDriver } from '../../../src/agent/bpftrace/sched-driver.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { instanceAt } from '../../../src/linux/instance-at.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const losses = {
  lost_events: 3,
  map_full: 0,
  helper_failed: 0,
  text_lines: 0,
  malformed_lines: 0,
  line_too_long: 0,
  flooded_seconds: 0,
};

/** A driver of which the test is the bpftrace. */
function scene() {
  const clock = steppedClock();
  const runs: RunOptions[] = [];
  const starting = startSchedDriver({
    run: options => {
      runs.push(options);
      return { losses: () => losses, stop: async () => undefined };
    },
    cgroupV1: true,
    latencyIntervalSeconds: 5,
    roots: { proc: '/', sys: '/', cgroup: '/' },
    clock,
    say: () => undefined,
  });
  const print = (name: string, ...entries: [string, number][]) =>
    runs.at(-1)?.record({ type: 'map', name, entries });
  return { clock, runs, starting, print };
}

const living: LivingInstance = {
  instance: instanceAt('/a'),
  path: '/a',
  members: new Map([[7, '/a']]),
  start: 5,
  totals: { runNs: 0, waitNs: 0, throttledNs: 0 },
  window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
};

test('totals are what was printed last; an autogroup is the root; a cgroup that is gone is told no more while it stands still', async t => {
  const { runs, starting, print } = scene();
  runs[0]?.attached();
  const { probe } = await starting;
  t.deepEqual(runs[0]?.parameters, ['1']);
  print('run', ['0', 5], ['1', 2], ['7', 100]);
  print('wait', ['7', 40]);
  t.deepEqual(
    [...probe.readTotals()],
    [
      [1, { runNs: 7, waitNs: 0, throttledNs: 0 }],
      [7, { runNs: 100, waitNs: 40, throttledNs: 0 }],
    ],
  );
  probe.forget([7]);
  t.false(probe.readTotals().has(7));
  print('run', ['7', 101]);
  t.is(probe.readTotals().get(7)?.runNs, 101);
  t.is(probe.counters().lost['lost_events'], 3);
});

test('latencies are an exponential histogram of octaves of a second, with the waits as their sum; they go on when the script is begun again', async t => {
  const { clock, runs, starting, print } = scene();
  runs[0]?.attached();
  const { source } = await starting;
  const latency = (count: number) =>
    runs.at(-1)?.record({
      type: 'map',
      name: 'latency',
      entries: [
        [
          '7',
          [
            { min: 0, max: 0, count: 1 },
            { min: 2 ** 30, max: 2 ** 31 - 1, count },
          ],
        ],
      ],
    });
  print('wait', ['7', 3e9]);
  latency(2);
  source.read([living]);
  t.like(source.samples(living)[0], {
    metric: 'sculptor.runqueue.latency',
    start: 5,
    value: { kind: 'exponential', scale: 0, count: 3, sum: 3, zeroCount: 1, offset: -30 },
  });
  t.is(source.trouble?.(), null);
  runs[0]?.ended({ attached: true, why: 'it ended' });
  t.deepEqual(source.trouble?.(), { code: 'BPFTRACE_FAILED', why: 'it ended' });
  clock.step(1);
  t.is(runs.length, 2);
  t.not(source.trouble?.(), null);
  runs[1]?.attached();
  t.is(source.trouble?.(), null);
  print('wait', ['7', 1e9]);
  latency(1);
  source.read([living]);
  t.like(source.samples(living)[0], { value: { count: 5, sum: 4 } });
  const value: unknown = source.samples(living)[0]?.value;
  // (2^0, 2^1] seconds.
  t.is((value as { counts: number[] }).counts[30], 3);
});

test('a run that was begun anew and has printed no histogram yet adds none', async t => {
  const { runs, starting, clock, print } = scene();
  runs[0]?.attached();
  const { source } = await starting;
  const latency = (count: number) =>
    runs.at(-1)?.record({
      type: 'map',
      name: 'latency',
      entries: [['7', [{ min: 1, max: 1, count }]]],
    });
  const count = () => (source.samples(living)[0] as { value: { count: number } }).value.count;
  print('run', ['7', 9e9]);
  print('wait', ['7', 5e9]);
  latency(1000);
  source.read([living]);
  runs[0]?.ended({ attached: true, why: 'it was killed' });
  clock.step(1);
  runs.at(-1)?.attached();
  print('run', ['7', 1e6]);
  print('wait', ['7', 1e5]);
  source.read([living]);
  t.is(count(), 1000);
  latency(3);
  source.read([living]);
  t.is(count(), 1003);
});

test('a bpftrace that does not attach is an error that says why', async t => {
  const refused = scene();
  refused.runs[0]?.ended({ attached: false, why: 'no tracepoint' });
  await t.throwsAsync(refused.starting, {
    code: 'BPFTRACE_FAILED',
    message: 'bpf/runqlat.bt: no tracepoint',
  });
});
