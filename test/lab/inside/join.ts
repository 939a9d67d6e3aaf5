/**
 * Runs in the lab, as the host: a guest under KVM with the real agent in its own kernel, behind the gate of the host's agent.
 * Two tasks compete for its vCPU 0: first alone, then beside a hog on the CPU that vCPU has. Prints what the host's agent told
 * of both sides, one JSON object.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MetricPoint } from '../../../src/contract/telemetry.ts';
import { eventually } from '../../support/scene.ts';
import { startHostAgent } from './host-agent.ts';
import { type WholeGuest, withWholeGuest } from './whole-guest.ts';

/** Growth of what was told of one vCPU within a phase, in seconds; `lasted` of them. */
export type Growth = {
  readonly lasted: number;
  /** `sculptor.task.runqueue.wait`, `sculptor.vcpu.guest.steal`, `sculptor.vcpu.guest.runqueue.wait`. */
  readonly hostWait: number;
  readonly guestSteal: number;
  readonly guestWait: number;
};

export type JoinOutcome = {
  /** By index of the vCPU. */
  readonly alone: readonly Growth[];
  readonly beside: readonly Growth[];
  /** Of the guest's starts before: see `WholeGuest`. */
  readonly tripleFaults: readonly string[];
};

const uuid = '5c0bdd5e-1f6f-4f2f-9d0b-3d1f3c7b4a12';
const vcpus = [0, 1];
const spin = '/checkout/build/sculpt-workload';
/** Both agents tell every 2 s, later where the emulated CPUs are short: what one said of a moment is told by the other after all. */
const settleSeconds = 60;

await run('modprobe', '-a', 'kvm_amd', 'vhost_vsock');
const folder = mkdtempSync('/tmp/join-');
const host = await startHostAgent(folder, { vsock: { port: 4317 } });
try {
  const options = { folder, uuid, script: 'test/lab/inside/join-guest.sh' };
  console.log(JSON.stringify(await withWholeGuest(options, outcomeOf)));
} finally {
  await host.stop();
}

async function outcomeOf(guest: WholeGuest): Promise<JoinOutcome> {
  for (const vcpu of vcpus) await run('taskset', '-cp', `${2 + vcpu}`, threadOf(guest, vcpu));
  await eventually('what the guest says of its vCPUs, told by the host', 240, () =>
    vcpus.every(vcpu => (last('sculptor.vcpu.guest.runqueue.wait', vcpu)?.value ?? 0) > 0)
      ? true
      : null,
  );
  const alone = await phase(() => sleep(20_000));
  const beside = await phase(() => besideHog(40_000));
  return { alone, beside, tripleFaults: guest.tripleFaults };
}

/** Before a phase and after it nothing is taken from the vCPUs, so both sides stand still while they are read. */
async function phase(during: () => Promise<unknown>): Promise<Growth[]> {
  const names = [
    'sculptor.task.runqueue.wait',
    'sculptor.vcpu.guest.steal',
    'sculptor.vcpu.guest.runqueue.wait',
  ];
  const now = () => vcpus.map(vcpu => names.map(name => last(name, vcpu)));
  await settle();
  const before = now();
  await during();
  await settle();
  return now().map((series, vcpu) => {
    const grown = series.map((after, at) => {
      const from = before[vcpu]?.[at];
      if (!from || !after || after.time <= from.time)
        throw new Error(`${names[at]} of vCPU ${vcpu} is not told any more`);
      if (after.start !== from.start) throw new Error(`${names[at]} of vCPU ${vcpu} began anew`);
      return { value: after.value - from.value, seconds: after.time - from.time };
    });
    const [hostWait, guestSteal, guestWait] = grown;
    if (!hostWait || !guestSteal || !guestWait) throw new Error('no series');
    return {
      lasted: guestWait.seconds,
      hostWait: hostWait.value,
      guestSteal: guestSteal.value,
      guestWait: guestWait.value,
    };
  });
}

/** Until the guest has told how things are from now on, and the host has told that. */
async function settle(): Promise<void> {
  for (const [who, metric] of [
    ['guest', 'sculptor.vcpu.steal'],
    ['host', 'sculptor.vcpu.guest.steal'],
  ] as const) {
    const known = toldBy(who, metric).length;
    // What comes next may have been read before; the one after that was read when that had gone.
    await eventually(`${who}: ${metric} anew`, settleSeconds, async () => {
      await sleep(1000);
      const times = toldBy(who, metric).slice(known);
      return new Set(times.map(({ time }) => time)).size > 1 ? true : null;
    });
  }
}

/** The last point that the host's agent told of a vCPU. */
function last(metric: string, vcpu: number): (MetricPoint & { value: number }) | undefined {
  const point = toldBy('host', metric)
    .filter(({ attributes }) => attributes['sculptor.vcpu.index'] === vcpu)
    .at(-1);
  return typeof point?.value === 'number' ? { ...point, value: point.value } : undefined;
}

/** What came of the guest: from its own agent through the host's gate, or from the host's. */
function toldBy(who: 'guest' | 'host', metric: string): MetricPoint[] {
  return host.resources
    .filter(({ resource }) =>
      who === 'guest'
        ? isGuests(resource)
        : resource['sculptor.instance.id'] === uuid && !isGuests(resource),
    )
    .flatMap(({ points }) => points)
    .filter(each => each.metric === metric);
}

function isGuests(resource: object): boolean {
  return 'sculptor.origin' in resource;
}

/** In a cgroup of its own, and of the same weight as the guest's: each gets half of the CPU. */
async function besideHog(ms: number): Promise<void> {
  mkdirSync('/sys/fs/cgroup/hog', { recursive: true });
  const enter = 'echo $$ >/sys/fs/cgroup/hog/cgroup.procs && exec taskset -c 2 "$0" spin';
  const hog = spawn('sh', ['-c', enter, spin], { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    await sleep(ms);
  } finally {
    hog.kill('SIGKILL');
  }
}

function threadOf({ qemu }: WholeGuest, vcpu: number): string {
  const tasks = `/proc/${qemu.pid}/task`;
  const found = readdirSync(tasks).find(
    tid => readFileSync(`${tasks}/${tid}/comm`, 'utf8').trim() === `CPU ${vcpu}/KVM`,
  );
  if (!found) throw new Error(`QEMU has no thread of vCPU ${vcpu}`);
  return found;
}

async function run(command: string, ...args: string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const code = await new Promise(resolve => child.once('exit', resolve));
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit code ${code}`);
}
