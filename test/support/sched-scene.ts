import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { type SchedProbe, startSchedProbe } from '../../src/agent/probes/sched.ts';
import type { SchedTotals } from '../../src/agent/probes/sched-layout.ts';
import type { Counters } from '../../src/agent/sources/counters.ts';
import { loadNative } from '../../src/linux/native.ts';
import { type CgroupBox, makeCgroupBox } from './cgroup-box.ts';
import { eventually } from './scene.ts';

/** Whether the `cpu` controller is one of v1, here; the hierarchy that has it. */
export const isCgroupV1 = existsSync('/sys/fs/cgroup/cpu');
export const cpuRoot = isCgroupV1 ? '/sys/fs/cgroup/cpu' : '/sys/fs/cgroup';
/** The built workload, and the command that burns one CPU with it. */
export const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
export const spin: readonly string[] = [workload, 'spin'];

/** How long a reading that takes no time at all is tried for: an emulated machine has none. */
const patienceMs = 100;

let probes: SchedProbe[] = [];
let boxes: CgroupBox[] = [];

/** Stops the probes and ends the cgroups that a test made: for `afterEach.always`. */
export async function endAll(): Promise<void> {
  for (const probe of probes) probe.stop();
  probes = [];
  await endBoxes();
}

/** Ends the cgroups alone. */
export async function endBoxes(): Promise<void> {
  for (const box of boxes) await box.end();
  boxes = [];
}

/** The probe, stopped by `endAll`. */
export function startProbe(
  options: Partial<Parameters<typeof startSchedProbe>[0]> = {},
): SchedProbe {
  const probe = startSchedProbe({ ...usualOptions(), ...options });
  probes.push(probe);
  return probe;
}

const usualOptions = () => ({
  native: loadNative(),
  cgroupV1: isCgroupV1,
  maxInstances: 1024,
  nodeOfCpu: [],
  possibleCpus: 1,
});

let shared: SchedProbe | null = null;

/**
 * What `startProbe()` starts, once for all tests of a file that ask for it; it ends with the file's process. The kernel takes a second
 * of a CPU to verify one. For tests whose cgroups and tasks came after the probe, and which hold nothing against its beginning.
 */
export function sharedProbe(): SchedProbe {
  shared ??= startSchedProbe(usualOptions());
  return shared;
}

/** A cgroup whose tasks win against whatever else this machine does: what a test measures is then its own doing. */
export function makeBox(shares: 'most' | 'usual' | 'fewest' = 'most', root = cpuRoot): CgroupBox {
  const box = makeCgroupBox(root);
  boxes.push(box);
  if (root !== cpuRoot) return box;
  setWeight(box, { most: 256, usual: 1, fewest: 1 / 512 }[shares]);
  return box;
}

/** In units of what a cgroup has by itself; v2 has no more than 100 of them, and no less than 0.01. */
export function setWeight(box: CgroupBox, weight: number): void {
  if (isCgroupV1) box.write('cpu.shares', String(Math.round(weight * 1024)));
  else box.write('cpu.weight', String(Math.round(Math.min(100, Math.max(0.01, weight)) * 100)));
}

/** How much of a CPU it may run, in each 100 ms. */
export function setQuota(box: CgroupBox, cores: number): void {
  if (isCgroupV1) box.write('cpu.cfs_quota_us', String(cores * 100_000));
  else box.write('cpu.max', `${cores * 100_000} 100000`);
}

/** Time the cgroup's run queues were throttled, periods that have ended. */
export function throttledSeconds(box: CgroupBox): number {
  const [, time, perSecond] = isCgroupV1
    ? [...(/throttled_time (\d+)/.exec(box.read('cpu.stat')) ?? []), 1e9]
    : [...(/throttled_usec (\d+)/.exec(box.read('cpu.stat')) ?? []), 1e6];
  return Number(time) / Number(perSecond);
}

/** Starts a command on one CPU; resolves when it has become it. */
export async function startPinned(box: CgroupBox, cpu: number, ...command: string[]) {
  const child = box.spawn('taskset', '-c', String(cpu), ...command);
  await becomes(child, command[0] ?? '');
  return child;
}

/** Resolves when a spawned shell has become its command. */
export async function becomes(child: ChildProcess, command: string): Promise<void> {
  await eventually(`${command} runs`, 20, () =>
    readFileSync(`/proc/${child.pid}/cmdline`, 'latin1').startsWith(command) ? true : null,
  );
}

/** Totals of one cgroup at a time (s, monotonic). */
export type Reading = { at: number; totals: SchedTotals };

type TotalsProbe = Pick<SchedProbe, 'readTotals'>;

/** Charges what is open and reads all; again when it took so long (this test was kept waiting) that nobody knows when that was. */
export function readAll(probe: TotalsProbe): { at: number; all: Map<number, SchedTotals> } {
  const until = performance.now() + patienceMs;
  for (;;) {
    const before = performance.now();
    const all = probe.readTotals();
    const took = performance.now() - before;
    if (took < 1 || before > until) return { at: (before + took / 2) / 1e3, all };
  }
}

/** As `readAll`, one cgroup. @throws when it has no totals */
export function read(probe: TotalsProbe, box: CgroupBox): Reading {
  const { at, all } = readAll(probe);
  const totals = all.get(box.id);
  if (!totals) throw new Error(`no totals of cgroup ${box.id}`);
  return { at, totals };
}

/** Charges sleeps too, then reads all of one cgroup, and when that was (s, monotonic). @throws when it has no totals */
export function readDetails(
  probe: Pick<SchedProbe, 'readDetails'>,
  box: CgroupBox,
): { at: number; counters: Counters } {
  const counters = probe.readDetails().instances.get(box.id);
  if (!counters) throw new Error(`no totals of cgroup ${box.id}`);
  return { at: performance.now() / 1e3, counters };
}

/** What was charged between two readings, in cores. */
export function cores(from: Reading, to: Reading) {
  const ns = (to.at - from.at) * 1e9;
  return {
    seconds: to.at - from.at,
    run: (to.totals.runNs - from.totals.runNs) / ns,
    wait: (to.totals.waitNs - from.totals.waitNs) / ns,
    throttled: (to.totals.throttledNs - from.totals.throttledNs) / ns,
  };
}

/** The kernel's own account of a thread: ns on a CPU, ns waiting (throttled included). */
export function schedstat(child: ChildProcess): { runNs: number; waitNs: number } {
  const [run, wait] = readFileSync(`/proc/${child.pid}/schedstat`, 'utf8').split(' ');
  return { runNs: Number(run), waitNs: Number(wait) };
}

/** How often the task has left its CPU, of its own will and not. */
function switches(child: ChildProcess): string {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return status.slice(status.indexOf('voluntary_ctxt_switches'));
}

/**
 * Reads the probe and another witness at one time: again when they came more than 2 ms apart, since on a busy machine the
 * test itself is kept waiting between the two.
 */
export function readTogether<T>(
  probe: TotalsProbe,
  box: CgroupBox,
  witness: () => T,
): [Reading, T] {
  const until = performance.now() + 2 * patienceMs;
  for (;;) {
    const began = performance.now();
    const answers: [Reading, T] = [read(probe, box), witness()];
    if (performance.now() - began < 2 || began > until) return answers;
  }
}

/** Asserts |got − wanted| ≤ tolerance, and says by how much it was missed. */
export function near(
  t: ExecutionContext,
  got: number,
  wanted: number,
  tolerance: number,
  what: string,
) {
  t.true(
    Math.abs(got - wanted) <= tolerance,
    `${what}: got ${got.toFixed(4)}, wanted ${wanted.toFixed(4)} ± ${tolerance.toFixed(4)}`,
  );
}

/** Reads until two readings a while apart had no switch of the task between them, which ran, or waited, all the while. */
export async function readingsWithoutSwitch(
  probe: TotalsProbe,
  box: CgroupBox,
  child: ChildProcess,
  state: 'running' | 'waiting' = 'running',
) {
  return eventually('two readings without a switch', 10, async () => {
    const [switchesBefore, before] = [switches(child), schedstat(child)];
    const from = read(probe, box);
    await pause(20);
    const to = read(probe, box);
    const after = schedstat(child);
    // Who waits at the beginning gets its CPU without a switch of its own, but then its wait is on the kernel's account.
    const stayed = switches(child) === switchesBefore && after.waitNs === before.waitNs;
    const ran = after.runNs > before.runNs;
    return stayed && ran === (state === 'running') ? cores(from, to) : null;
  });
}
