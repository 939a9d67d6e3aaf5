import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { word } from '../../src/agent/probes/sched-layout.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { watchQuota } from '../support/sched-loads.ts';
import {
  cores,
  endAll,
  makeBox,
  near,
  read,
  readDetails,
  readingsWithoutSwitch,
  readTogether,
  schedstat,
  sharedProbe,
  spin,
  startPinned,
  startProbe,
} from '../support/sched-scene.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
test.afterEach.always(endAll);

kernelTest('a spinner is charged at each read, though it never switches', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const child = await startPinned(box, 0, ...spin);
  const { run, wait } = await readingsWithoutSwitch(probe, box, child);
  near(t, run, 1, 0.05, 'run');
  near(t, wait, 0, 0.01, 'wait');
});

kernelTest('a spinner that was there before the probe is charged from its start on', async t => {
  const box = makeBox();
  const child = await startPinned(box, 0, ...spin);
  const probe = startProbe();
  const { run } = await readingsWithoutSwitch(probe, box, child);
  near(t, run, 1, 0.05, 'run');
});

kernelTest(
  'a starved task is charged while it waits, and its latency only when it runs',
  async t => {
    const probe = sharedProbe();
    const [winner, loser] = [makeBox('most'), makeBox('fewest')];
    await startPinned(winner, 0, ...spin);
    const child = loser.spawn('taskset', '-c', '0', ...spin);
    const { run, wait } = await eventually('the loser waits', 10, async () => {
      const before = probe.readTotals().get(loser.id);
      if (!before || before.waitNs < 1e6) return null;
      return readingsWithoutSwitch(probe, loser, child, 'waiting');
    });
    near(t, wait, 1, 0.05, 'wait');
    near(t, run, 0, 0.01, 'run');
  },
);

kernelTest(
  'two spinners on one CPU: run and wait are what /proc/PID/schedstat says, within 1 %',
  async t => {
    const probe = sharedProbe();
    const box = makeBox();
    const children = [await startPinned(box, 0, ...spin), await startPinned(box, 0, ...spin)];
    await pause(300);
    const [from, before] = readTogether(probe, box, () => children.map(schedstat));
    await pause(3000);
    const [to, after] = readTogether(probe, box, () => children.map(schedstat));
    const { run, wait, seconds } = cores(from, to);
    const delta = (field: 'runNs' | 'waitNs') =>
      after.reduce((sum, a, i) => sum + a[field] - (before[i]?.[field] ?? 0), 0) / 1e9 / seconds;
    near(t, run, delta('runNs'), 0.01, 'run');
    near(t, wait, delta('waitNs'), 0.01, 'wait');
    near(t, run + wait, 2, 0.01, 'run + wait of two tasks');
    const tasks = new Map(probe.readDetails().tasks.map(task => [task.tid, task.totals()]));
    const [first, second] = children.map(child => tasks.get(child.pid ?? 0));
    t.truthy(first && second);
    // Equal weights: neither gets more than the other, whoever else is on the machine.
    near(t, (first?.runNs ?? 0) / (second?.runNs ?? 1), 1, 0.15, 'run of one to the other');
  },
);

kernelTest('a process that lived 20 ms between two reads is in the totals', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const child = box.spawn('timeout', '-s', 'KILL', '0.02', ...spin);
  await new Promise(resolve => child.once('exit', resolve));
  const { totals } = read(probe, box);
  t.true(totals.runNs > 10e6, `run: ${totals.runNs} ns`);
  t.true(totals.runNs + totals.waitNs < 200e6, `run: ${totals.runNs} ns, wait: ${totals.waitNs}`);
  t.true(word(readDetails(probe, box).counters, 'latencyCount') > 0);
});

kernelTest('a hog alone with a quota of 20 % is throttled and does not wait', async t => {
  const seen = await watchQuota(sharedProbe(), 'alone');
  const { run, wait, throttled, byCgroup, delayed, latency } = seen;
  near(t, run, 0.2, 0.03, 'run');
  near(t, run + wait + throttled, 1, 0.01, 'sum');
  // Nought on a quiet machine; what else it does may keep the hog waiting for a moment, never for most of the time.
  t.true(wait < 0.1, `wait: ${wait}`);
  // Two witnesses: the cgroup's own account (periods that have ended), and the task's, which mixes both.
  near(t, throttled, byCgroup, 0.04, 'cpu.stat');
  near(t, wait + throttled, delayed, 0.04, 'schedstat');
  near(t, latency, wait, 0.02, 'latencies of a second, added up');
});

kernelTest('a hog with a quota and a neighbour shows both, throttling and waiting', async t => {
  const { run, wait, throttled, byCgroup, neighbour } = await watchQuota(sharedProbe(), 'beside');
  near(t, run, 0.2, 0.03, 'run');
  near(t, run + wait + throttled, 1, 0.01, 'sum');
  near(t, throttled, byCgroup, 0.04, 'cpu.stat');
  // Half of the CPU while it may run at all: it waits about as long as it runs.
  t.true(wait > 0.1 && wait < 0.35, `wait: ${wait}`);
  // The neighbour waits for it, and nothing holds it back.
  near(t, neighbour.wait, run, 0.05, "neighbour's wait");
  t.is(neighbour.throttled, 0);
});
