import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import {
  type SchedProbe,
  type SchedTotals,
  startSchedProbe,
} from '../../src/agent/probes/sched.ts';
import { loadNative } from '../../src/linux/native.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';

const cpuRoot = '/sys/fs/cgroup/cpu';
const unifiedRoot = existsSync('/sys/fs/cgroup/cgroup.controllers')
  ? '/sys/fs/cgroup'
  : '/sys/fs/cgroup/unified';
const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
const spin = [workload, 'spin'];
const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
const unifiedTest = existsSync(`${unifiedRoot}/cgroup.procs`)
  ? needs('root', 'btf', 'addon')
  : test.skip;

let probes: SchedProbe[] = [];
let boxes: CgroupBox[] = [];

test.afterEach.always(async () => {
  for (const probe of probes) probe.stop();
  for (const box of boxes) await box.end();
  probes = [];
  boxes = [];
});

function startProbe(options: { cgroupV1?: boolean; maxInstances?: number } = {}): SchedProbe {
  const native = loadNative();
  const probe = startSchedProbe({ native, cgroupV1: true, maxInstances: 1024, ...options });
  probes.push(probe);
  return probe;
}

/** A cgroup whose tasks win against whatever else this machine does: what a test measures is then its own doing. */
function makeBox(shares: 'most' | 'usual' | 'fewest' = 'most', root = cpuRoot): CgroupBox {
  const box = makeCgroupBox(root);
  boxes.push(box);
  if (root !== cpuRoot) return box;
  box.write('cpu.shares', { most: '262144', usual: '1024', fewest: '2' }[shares]);
  return box;
}

/** Starts a command on one CPU; resolves when it has become it. */
async function startPinned(box: CgroupBox, cpu: number, ...command: string[]) {
  const child = box.spawn('taskset', '-c', String(cpu), ...command);
  await becomes(child, command[0] ?? '');
  return child;
}

async function becomes(child: ChildProcess, command: string): Promise<void> {
  await eventually(`${command} runs`, 5, () =>
    readFileSync(`/proc/${child.pid}/cmdline`, 'latin1').startsWith(command) ? true : null,
  );
}

type Reading = { at: number; totals: SchedTotals };

function read(probe: SchedProbe, box: CgroupBox): Reading {
  const before = performance.now();
  const totals = probe.readTotals().get(box.id);
  if (!totals) throw new Error(`no totals of cgroup ${box.id}`);
  return { at: (before + performance.now()) / 2e3, totals };
}

/** What was charged between two readings, in cores. */
function cores(from: Reading, to: Reading) {
  const ns = (to.at - from.at) * 1e9;
  return {
    seconds: to.at - from.at,
    run: (to.totals.runNs - from.totals.runNs) / ns,
    wait: (to.totals.waitNs - from.totals.waitNs) / ns,
    throttled: (to.totals.throttledNs - from.totals.throttledNs) / ns,
  };
}

/** The kernel's own account of a thread: ns on a CPU, ns waiting (throttled included). */
function schedstat(child: ChildProcess): { runNs: number; waitNs: number } {
  const [run, wait] = readFileSync(`/proc/${child.pid}/schedstat`, 'utf8').split(' ');
  return { runNs: Number(run), waitNs: Number(wait) };
}

/** How often the task has left its CPU, of its own will and not. */
function switches(child: ChildProcess): string {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return status.slice(status.indexOf('voluntary_ctxt_switches'));
}

function near(t: ExecutionContext, got: number, wanted: number, tolerance: number, what: string) {
  t.true(
    Math.abs(got - wanted) <= tolerance,
    `${what}: got ${got.toFixed(4)}, wanted ${wanted.toFixed(4)} ± ${tolerance.toFixed(4)}`,
  );
}

/** Reads until two readings a while apart had no switch of the task between them. */
async function readingsWithoutSwitch(probe: SchedProbe, box: CgroupBox, child: ChildProcess) {
  return eventually('two readings without a switch', 10, async () => {
    const switchesBefore = switches(child);
    const from = read(probe, box);
    await pause(20);
    const to = read(probe, box);
    return switches(child) === switchesBefore ? cores(from, to) : null;
  });
}

kernelTest('a spinner is charged at each read, though it never switches', async t => {
  const probe = startProbe();
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
    const probe = startProbe();
    const [winner, loser] = [makeBox('most'), makeBox('fewest')];
    await startPinned(winner, 0, ...spin);
    const child = loser.spawn('taskset', '-c', '0', ...spin);
    const { run, wait } = await eventually('the loser waits', 10, async () => {
      const before = probe.readTotals().get(loser.id);
      if (!before || before.waitNs < 1e6) return null;
      return readingsWithoutSwitch(probe, loser, child);
    });
    near(t, wait, 1, 0.05, 'wait');
    near(t, run, 0, 0.01, 'run');
  },
);

kernelTest(
  'two spinners on one CPU: run and wait are what /proc/PID/schedstat says, within 1 %',
  async t => {
    const probe = startProbe();
    const box = makeBox();
    const children = [await startPinned(box, 0, ...spin), await startPinned(box, 0, ...spin)];
    await pause(300);
    const from = read(probe, box);
    const before = children.map(schedstat);
    await pause(3000);
    const to = read(probe, box);
    const after = children.map(schedstat);
    const { run, wait, seconds } = cores(from, to);
    const delta = (field: 'runNs' | 'waitNs') =>
      after.reduce((sum, a, i) => sum + a[field] - (before[i]?.[field] ?? 0), 0) / 1e9 / seconds;
    near(t, run, delta('runNs'), 0.01, 'run');
    near(t, wait, delta('waitNs'), 0.01, 'wait');
    near(t, run + wait, 2, 0.01, 'run + wait of two tasks');
    const tasks = new Map(probe.readTasks().map(task => [task.tid, task]));
    const [first, second] = children.map(child => tasks.get(child.pid ?? 0));
    t.truthy(first && second);
    // Equal weights: neither gets more than the other, whoever else is on the machine.
    near(t, (first?.runNs ?? 0) / (second?.runNs ?? 1), 1, 0.15, 'run of one to the other');
  },
);

kernelTest('a process that lived 20 ms between two reads is in the totals', async t => {
  const probe = startProbe();
  const box = makeBox();
  const child = box.spawn('timeout', '-s', 'KILL', '0.02', ...spin);
  await new Promise(resolve => child.once('exit', resolve));
  const { totals } = read(probe, box);
  t.true(totals.runNs > 10e6, `run: ${totals.runNs} ns`);
  t.true(totals.runNs + totals.waitNs < 200e6, `run: ${totals.runNs} ns, wait: ${totals.waitNs}`);
  t.true(totals.latencyCount > 0);
});

kernelTest('a hog alone with a quota of 20 % is throttled and does not wait', async t => {
  const probe = startProbe();
  const box = makeBox();
  const child = await startPinned(box, 0, ...spin);
  box.write('cpu.cfs_quota_us', '20000');
  await pause(500);
  const from = read(probe, box);
  const before = { ...schedstat(child), throttled: throttledSeconds(box) };
  await pause(3000);
  const to = read(probe, box);
  const { run, wait, throttled, seconds } = cores(from, to);
  const delayed = (schedstat(child).waitNs - before.waitNs) / 1e9 / seconds;
  near(t, run, 0.2, 0.02, 'run');
  near(t, throttled, 0.8, 0.03, 'throttled');
  near(t, wait, 0, 0.02, 'wait');
  // Two witnesses: the cgroup's own account (periods that have ended), and the task's, which mixes both.
  near(t, throttled, (throttledSeconds(box) - before.throttled) / seconds, 0.04, 'cpu.stat');
  near(t, wait + throttled, delayed, 0.04, 'schedstat');
  const latencyMs = (to.totals.latencySumNs - from.totals.latencySumNs) / 1e6 / seconds;
  t.true(latencyMs < 20, `latencies of a second add up to ${latencyMs} ms`);
});

kernelTest('a hog with a quota and a neighbour shows both, throttling and waiting', async t => {
  const probe = startProbe();
  const [hog, neighbour] = [makeBox('most'), makeBox('most')];
  await startPinned(neighbour, 0, ...spin);
  const child = await startPinned(hog, 0, ...spin);
  hog.write('cpu.cfs_quota_us', '20000');
  await pause(500);
  const from = read(probe, hog);
  const before = { ...schedstat(child), throttled: throttledSeconds(hog) };
  await pause(3000);
  const to = read(probe, hog);
  const { run, wait, throttled, seconds } = cores(from, to);
  near(t, run, 0.2, 0.03, 'run');
  near(t, run + wait + throttled, 1, 0.01, 'sum');
  near(t, throttled, (throttledSeconds(hog) - before.throttled) / seconds, 0.04, 'cpu.stat');
  // Half of the CPU while it may run at all: it waits about as long as it runs.
  t.true(wait > 0.1 && wait < 0.35, `wait: ${wait}`);
});

/** Time the cgroup's run queues were throttled, periods that have ended. */
function throttledSeconds(box: CgroupBox): number {
  return Number(/throttled_time (\d+)/.exec(box.read('cpu.stat'))?.[1]) / 1e9;
}

kernelTest('no total falls and no CPU is charged twice in 100 quick reads with churn', async t => {
  const probe = startProbe();
  const [churn, spinners] = [makeBox(), makeBox('usual')];
  const cpus = navigator.hardwareConcurrency;
  for (let cpu = 0; cpu < cpus; cpu += 1) await startPinned(spinners, cpu, ...spin);
  churn.spawn('sh', '-c', 'while :; do (:); /bin/true; done');
  const sum = (all: Map<number, SchedTotals>) =>
    [...all.values()].reduce((ns, { runNs }) => ns + runNs, 0);
  let last = probe.readTotals();
  const [began, first] = [process.hrtime.bigint(), sum(last)];
  for (let i = 0; i < 100; i += 1) {
    await pause(i % 10);
    const next = probe.readTotals();
    for (const [id, before] of last) {
      const after = next.get(id);
      t.true(after !== undefined && neverFell(before, after), `cgroup ${id}, read ${i}`);
    }
    last = next;
  }
  const used = (sum(last) - first) / Number(process.hrtime.bigint() - began);
  // Each CPU always has something to run: all of its time is somebody's, once.
  near(t, used, cpus, 0.02 * cpus, 'cores in use');
  t.deepEqual(probe.counters().lost, {
    task_storage: 0,
    instance_map_full: 0,
    instance_memory: 0,
    recursion: 0,
  });
});

function neverFell(before: SchedTotals, after: SchedTotals): boolean {
  return (
    after.runNs >= before.runNs &&
    after.waitNs >= before.waitNs &&
    after.throttledNs >= before.throttledNs &&
    after.migrations >= before.migrations &&
    after.latencyCount >= before.latencyCount &&
    after.latencySumNs >= before.latencySumNs &&
    after.slots.every((count, slot) => count >= (before.slots[slot] ?? 0))
  );
}

kernelTest('the tasks of a cgroup add up to its totals, to the nanosecond', async t => {
  const probe = startProbe();
  const box = makeBox();
  const children = [1, 2, 3, 4].map(() => box.spawn(...spin));
  const known = new Map<number, { runNs: number; waitNs: number }>();
  const stopped = async () => {
    for (const child of children) child.kill('SIGSTOP');
    await eventually('all have stopped', 5, () => (children.every(isStopped) ? true : null));
    const { totals } = read(probe, box);
    for (const task of probe.readTasks()) known.set(task.tid, task);
    const tasks = children.map(child => known.get(child.pid ?? 0) ?? { runNs: 0, waitNs: 0 });
    return {
      run: [totals.runNs, tasks.reduce((ns, { runNs }) => ns + runNs, 0)] as const,
      wait: [totals.waitNs, tasks.reduce((ns, { waitNs }) => ns + waitNs, 0)] as const,
    };
  };
  await Promise.all(children.map(child => becomes(child, workload)));
  const before = await stopped();
  for (const child of children) child.kill('SIGCONT');
  await pause(500);
  const after = await stopped();
  t.true(after.run[0] > before.run[0] + 1e8);
  t.is(after.run[1] - before.run[1], after.run[0] - before.run[0]);
  t.is(after.wait[1] - before.wait[1], after.wait[0] - before.wait[0]);
});

function isStopped(child: ChildProcess): boolean {
  return /\) T /.test(readFileSync(`/proc/${child.pid}/stat`, 'latin1'));
}

kernelTest('the histogram agrees with its count and its sum', async t => {
  const probe = startProbe();
  const box = makeBox();
  await startPinned(box, 0, workload, 'latency', '--period-us', '1000', '--burn-us', '200');
  await startPinned(box, 0, ...spin);
  await pause(1000);
  const { slots, latencyCount, latencySumNs } = read(probe, box).totals;
  let [count, least, most] = [0, 0, 0];
  for (const [slot, n] of slots.entries()) {
    count += n;
    least += n * 2 ** (slot / 4 - 30) * 1e9;
    most += n * 2 ** ((slot + 1) / 4 - 30) * 1e9;
  }
  t.is(count, latencyCount);
  t.true(count > 500, `${count} latencies in a second of wake-ups each ms`);
  t.true(least <= latencySumNs && latencySumNs <= most, `${least} <= ${latencySumNs} <= ${most}`);
});

kernelTest('what does not fit into the map of instances is counted as lost', async t => {
  const probe = startProbe({ maxInstances: 1 });
  const box = makeBox();
  await startPinned(box, 0, ...spin);
  await pause(100);
  t.true(probe.readTotals().size <= 1);
  t.true(probe.counters().lost.instance_map_full > 0);
  t.true(probe.counters().events > 0);
});

kernelTest('a cgroup that was forgotten is gone, and the others stay', async t => {
  const probe = startProbe();
  const box = makeBox();
  const child = await startPinned(box, 0, ...spin);
  read(probe, box);
  child.kill('SIGKILL');
  await new Promise(resolve => child.once('exit', resolve));
  const before = probe.readTotals();
  t.true(before.has(box.id));
  probe.forget([box.id, 123_456_789]);
  const after = probe.readTotals();
  t.false(after.has(box.id));
  t.true(after.size >= before.size - 1);
});

unifiedTest('on cgroup v2 the id is the one of the unified hierarchy', async t => {
  const probe = startProbe({ cgroupV1: false });
  const box = makeBox('usual', unifiedRoot);
  const child = await startPinned(box, 0, ...spin);
  await pause(200);
  const from = read(probe, box);
  const before = schedstat(child);
  await pause(1500);
  const to = read(probe, box);
  const after = schedstat(child);
  const { run, wait, seconds } = cores(from, to);
  near(t, run, (after.runNs - before.runNs) / 1e9 / seconds, 0.015, 'run');
  near(t, run + wait, 1, 0.01, 'run + wait');
});

kernelTest('a probe that was stopped leaves no program behind', async t => {
  const probe = startProbe();
  t.true(probe.counters().memoryBytes > 0);
  probe.stop();
  t.throws(() => probe.readTotals(), { message: /closed/ });
  await t.notThrowsAsync(async () => {
    const again = startProbe();
    again.readTotals();
  });
});
