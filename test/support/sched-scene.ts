import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { Counters } from '../../src/agent/counters.ts';
import { type SchedProbe, startSchedProbe } from '../../src/agent/probes/sched.ts';
import type { SchedTotals } from '../../src/agent/probes/sched-layout.ts';
import { loadNative } from '../../src/linux/native.ts';
import { type CgroupBox, makeCgroupBox } from './cgroup-box.ts';
import { eventually } from './scene.ts';

/** The v1 `cpu` hierarchy. */
export const cpuRoot = '/sys/fs/cgroup/cpu';
/** The built workload, and the command that burns one CPU with it. */
export const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
export const spin: readonly string[] = [workload, 'spin'];

let probes: SchedProbe[] = [];
let boxes: CgroupBox[] = [];

/** Stops the probes and ends the cgroups that a test made: for `afterEach.always`. */
export async function endAll(): Promise<void> {
  for (const probe of probes) probe.stop();
  for (const box of boxes) await box.end();
  probes = [];
  boxes = [];
}

/** The probe, stopped by `endAll`. */
export function startProbe(
  options: Partial<Parameters<typeof startSchedProbe>[0]> = {},
): SchedProbe {
  const probe = startSchedProbe({
    native: loadNative(),
    cgroupV1: true,
    maxInstances: 1024,
    nodeOfCpu: [],
    ...options,
  });
  probes.push(probe);
  return probe;
}

/** A cgroup whose tasks win against whatever else this machine does: what a test measures is then its own doing. */
export function makeBox(shares: 'most' | 'usual' | 'fewest' = 'most', root = cpuRoot): CgroupBox {
  const box = makeCgroupBox(root);
  boxes.push(box);
  if (root !== cpuRoot) return box;
  box.write('cpu.shares', { most: '262144', usual: '1024', fewest: '2' }[shares]);
  return box;
}

/** Starts a command on one CPU; resolves when it has become it. */
export async function startPinned(box: CgroupBox, cpu: number, ...command: string[]) {
  const child = box.spawn('taskset', '-c', String(cpu), ...command);
  await becomes(child, command[0] ?? '');
  return child;
}

/** Resolves when a spawned shell has become its command. */
export async function becomes(child: ChildProcess, command: string): Promise<void> {
  await eventually(`${command} runs`, 5, () =>
    readFileSync(`/proc/${child.pid}/cmdline`, 'latin1').startsWith(command) ? true : null,
  );
}

/** Totals of one cgroup at a time (s, monotonic). */
export type Reading = { at: number; totals: SchedTotals };

/** Charges what is open and reads all; again when it took so long (this test was kept waiting) that nobody knows when that was. */
export function readAll(probe: SchedProbe): { at: number; all: Map<number, SchedTotals> } {
  for (let attempt = 1; ; attempt += 1) {
    const before = performance.now();
    const all = probe.readTotals();
    const took = performance.now() - before;
    if (took < 1 || attempt === 100) return { at: (before + took / 2) / 1e3, all };
  }
}

/** As `readAll`, one cgroup. @throws when it has no totals */
export function read(probe: SchedProbe, box: CgroupBox): Reading {
  const { at, all } = readAll(probe);
  const totals = all.get(box.id);
  if (!totals) throw new Error(`no totals of cgroup ${box.id}`);
  return { at, totals };
}

/** Charges sleeps too, then reads all of one cgroup, and when that was (s, monotonic). @throws when it has no totals */
export function readDetails(probe: SchedProbe, box: CgroupBox): { at: number; counters: Counters } {
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

/** Time the run queues of a cgroup were throttled, by the kernel's account of it, periods that have ended. */
export function throttledSeconds(box: CgroupBox): number {
  return Number(/throttled_time (\d+)/.exec(box.read('cpu.stat'))?.[1]) / 1e9;
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
export function readTogether<T>(probe: SchedProbe, box: CgroupBox, witness: () => T): [Reading, T] {
  for (let attempt = 1; ; attempt += 1) {
    const began = performance.now();
    const answers: [Reading, T] = [read(probe, box), witness()];
    if (performance.now() - began < 2 || attempt === 100) return answers;
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
  probe: SchedProbe,
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
