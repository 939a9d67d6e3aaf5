/**
 * A disk of scsi_debug that fails, is busy, does a part of what it is asked, and is slow, and reads and page faults of it, on
 * the kernel it is started on; prints one JSON object (`ScsiLab`). It asserts nothing: the test outside does.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { blockSource } from '../../../src/agent/block/block-source.ts';
import { faultSource } from '../../../src/agent/memory/fault-source.ts';
import { memorySource } from '../../../src/agent/memory/memory-source.ts';
import type { Source, SourceContext } from '../../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { type CgroupBox, makeCgroupBox } from '../../support/cgroup-box.ts';
import { becomes, spin, workload } from '../../support/sched-scene.ts';
import { loadScsiDisk } from '../../support/scsi-disk.ts';
import { steppedClock } from '../../support/stepped-clock.ts';
import { livingAt, readByTurns, readTold, toldSeries } from '../../support/told-series.ts';
import { makeWalkerBox, type Walked, type WalkerBox } from '../../support/walker.ts';

const schedulers = ['mq-deadline', 'none'] as const;

/** What one scene came to: by the agent, by the kernel. */
export type Irregular = {
  readonly requeued: number;
  readonly in_parts: number;
  readonly failed: number;
  /** Of the cgroup on that disk. */
  readonly operations: number;
  readonly bytes: number;
  /** The disk's own account of the same. */
  readonly byDisk: { readonly operations: number; readonly bytes: number };
  /** SCSI's own counts: commands that ended in an error; those that were sent; those that the driver refused as busy. */
  readonly byScsi: { readonly errors: number; readonly sent: number; readonly busy: number };
  /** Tracepoint `block_rq_requeue` by tracefs. */
  readonly requeues: number;
  /** Readers that were told that it failed. */
  readonly toldFailed: number;
};

/** Stall time that came meanwhile, of how many seconds, and bytes by the cgroup's `io.stat`. */
export type Stalled = {
  readonly some: number;
  readonly full: number;
  readonly seconds: number;
  readonly bytes: number;
};

/** Of how many reads or faults it was told, how long they took in all, and how many of them took 1/64 to 1/32 s. */
export type Latency = {
  readonly count: number;
  readonly seconds: number;
  readonly around: number;
};

export type ScsiLab = {
  readonly irregular: Readonly<Record<(typeof schedulers)[number], Record<Scene, Irregular>>>;
  /** Failed by a device of device-mapper, which makes no request. */
  readonly mapped: { readonly failed: number; readonly toldFailed: number };
  /** 100 reads of 20 ms each; the same beside a spinner of the same cgroup; 3 MB at 1 MB/s. */
  readonly pressure: Readonly<Record<'alone' | 'beside' | 'throttled', Stalled>>;
  /** Of the first of these. */
  readonly latency: Readonly<Record<'queue' | 'device', Latency>>;
  /** 1 MB of it mapped, and walked while each read of it took 20 ms; and again, when all of it was in memory. */
  readonly faults: Readonly<Record<'cold' | 'warm', Faults>>;
  /** What came meanwhile of a cgroup that sleeps, and of the host. */
  readonly neighbour: Omit<Stalled, 'seconds'>;
  readonly host: { readonly some: number; readonly seconds: number };
};
/** What a walker said of itself, and what was told of its cgroup's faults. */
export type Faults = {
  readonly walked: Walked;
  readonly minor: Latency;
  readonly major: Latency;
};
type Scene = 'regular' | 'bad' | 'retried' | 'busy' | 'busyTogether' | 'short';

const root = '/sys/fs/cgroup';
/** The kernel has PSI by CPU, and averages: of one that moves it tells less. */
const onOneCpu = ['taskset', '-c', '2'];
const tracing = '/sys/kernel/tracing/instances/sculptor-scsi';

writeFileSync(`${root}/cgroup.subtree_control`, '+cpu +memory +io');
// 68 KB from 2 MB on.
const disk = await loadScsiDisk({ from: 4096, count: 136 });
execFileSync('modprobe', ['dm_mod']);
mkdirSync(tracing);
const clock = steppedClock();
const context = {
  config: { detailIntervalSeconds: 10, maxInstances: 1024 },
  native: loadNative(),
  roots: hostRoots,
  layout: readCgroupLayout(hostRoots),
  runByCpu: () => new Map(),
  clock,
} as unknown as SourceContext;
const block = blockSource.start(context);
const memory = memorySource.start(context);
const readMemory = readByTurns(memory, clock);
const [box, neighbour] = [makeCgroupBox(root), makeCgroupBox(root)];
const reader = livingAt(pathOf(box), box.id);
try {
  const irregular = {} as Record<(typeof schedulers)[number], Record<Scene, Irregular>>;
  for (const scheduler of schedulers) irregular[scheduler] = await provoke(scheduler);
  const mapped = await failMapped();
  const faults = await fault();
  const lab: ScsiLab = { irregular, mapped, faults, ...(await stall()) };
  console.log(JSON.stringify(lab));
} finally {
  block.stop();
  memory.stop();
  await box.end();
  await neighbour.end();
  rmdirSync(tracing);
}

function pathOf({ folder }: CgroupBox): string {
  return `/${basename(folder)}`;
}

/** `opts` of scsi_debug: 0x2 unreadable sectors, 0x10 a command that fails, 0x100 half of it done, 0x8000 busy. */
async function provoke(scheduler: (typeof schedulers)[number]): Promise<Record<Scene, Irregular>> {
  writeFileSync(`/sys/block/${disk.name}/queue/scheduler`, scheduler);
  const hundred = () => read('bs=16k', 'count=100');
  const together = async () => {
    const told = await Promise.all([hundred(), hundred(), hundred(), hundred()]);
    return told.reduce((failed, one) => failed + one, 0);
  };
  // Only commands that take some time fail so.
  const retry = async () => {
    disk.set({ ndelay: 100_000 });
    const failed = await oneByOne(3, nth => ['bs=16k', `skip=${nth}`]);
    disk.set({ delay: 0 });
    return failed;
  };
  return {
    regular: await watch(0, 0, hundred),
    // Six reads of 64 KB, of which the third and the fourth hold what cannot be read.
    bad: await watch(0x2, 0, () => oneByOne(6, nth => ['bs=64k', `skip=${30 + nth}`])),
    // SCSI sends a command that failed for the moment again, five times.
    retried: await watch(0x10, 1, retry),
    busy: await watch(0x8000, 10, hundred),
    busyTogether: await watch(0x8000, 10, together),
    short: await watch(0x100, 10, hundred),
  };
}

/** Has the driver do that to each `every`th command; what came until all that was asked for had ended. */
async function watch(opts: number, every: number, work: () => Promise<number>): Promise<Irregular> {
  disk.set({ every_nth: every, opts });
  const before = counts();
  trace(true);
  const toldFailed = await work();
  trace(false);
  const after = counts();
  disk.set({ opts: 0, every_nth: 0 });
  const traced = readFileSync(`${tracing}/trace`, 'utf8').split('\n');
  const events = (name: string) => traced.filter(line => line.includes(` ${name}: `)).length;
  const grown = (name: keyof typeof before) => after[name] - before[name];
  return {
    requeued: grown('requeued'),
    in_parts: grown('in_parts'),
    failed: grown('failed'),
    operations: grown('operations'),
    bytes: grown('bytes'),
    byDisk: { operations: grown('diskOperations'), bytes: grown('diskBytes') },
    byScsi: {
      errors: grown('errors'),
      sent: grown('sent'),
      busy: events('scsi_dispatch_cmd_error'),
    },
    requeues: events('block_rq_requeue'),
    toldFailed,
  };
}

function trace(on: boolean): void {
  if (on) writeFileSync(`${tracing}/trace`, '');
  for (const event of ['block/block_rq_requeue', 'scsi/scsi_dispatch_cmd_error'])
    writeFileSync(`${tracing}/events/${event}/enable`, on ? '1' : '0');
}

function counts() {
  const ofReader = readTold(block, reader);
  const ofHost = toldSeries(block.host());
  const irregular = (reason: string) => ofHost[`sculptor.disk.irregular ${reason}`] ?? Number.NaN;
  const { operations: diskOperations, bytes: diskBytes } = disk.reads();
  return {
    requeued: irregular('requeued'),
    in_parts: irregular('in_parts'),
    failed: irregular('failed'),
    operations: ofReader[`sculptor.disk.operations ${disk.name} read`] ?? 0,
    bytes: ofReader[`container.disk.io ${disk.name} read`] ?? 0,
    diskOperations,
    diskBytes,
    ...disk.commands(),
  };
}

/** One after another, past the page cache. 1: it failed, and its reader was told so. */
async function read(...how: string[]): Promise<number> {
  const device = how.some(word => word.startsWith('if=')) ? [] : [`if=/dev/${disk.name}`];
  const dd = ['dd', ...device, 'of=/dev/null', 'iflag=direct', 'status=none', ...how];
  const [code] = await once(box.spawn(...onOneCpu, ...dd), 'exit');
  return code === 0 ? 0 : 1;
}

/** So many reads, each of its own reader. */
async function oneByOne(count: number, how: (nth: number) => string[]): Promise<number> {
  let failed = 0;
  for (let nth = 0; nth < count; nth += 1) failed += await read(...how(nth), 'count=1');
  return failed;
}

async function failMapped(): Promise<ScsiLab['mapped']> {
  const dmsetup = (...args: string[]) => execFileSync('dmsetup', args, { encoding: 'utf8' }).trim();
  const before = counts().failed;
  dmsetup('create', '--noudevsync', 'sculptor-bad', '--table', '0 64 error');
  const name = dmsetup('info', '-c', '--noheadings', '-o', 'blkdevname', 'sculptor-bad');
  const toldFailed = await oneByOne(3, nth => [`if=/dev/${name}`, 'bs=4k', `skip=${nth}`]);
  dmsetup('remove', '--noudevsync', 'sculptor-bad');
  return { failed: counts().failed - before, toldFailed };
}

async function stall(): Promise<Pick<ScsiLab, 'pressure' | 'latency' | 'neighbour' | 'host'>> {
  await becomes(neighbour.spawn('sleep', '1000'), 'sleep');
  const began = performance.now();
  const [neighbourBefore, hostBefore] = [stalled(neighbour), hostStalled()];
  disk.set({ ndelay: 20_000_000 });
  const slow = () => read('bs=4k', 'count=100');
  const latencyBefore = latencies();
  const alone = await stallDuring(slow);
  const latencyAfter = latencies();
  const spinner = box.spawn(...onOneCpu, ...spin);
  await becomes(spinner, workload);
  const beside = await stallDuring(slow);
  const ended = once(spinner, 'exit');
  spinner.kill('SIGKILL');
  await ended;
  disk.set({ delay: 0 });
  const numbers = readFileSync(`/sys/block/${disk.name}/dev`, 'utf8').trim();
  box.write('io.max', `${numbers} rbps=${1 << 20}`);
  const throttled = await stallDuring(() => read('bs=64k', 'count=48'));
  const host = hostStalled() - hostBefore;
  return {
    pressure: { alone, beside, throttled },
    latency: {
      queue: lessLatency(latencyAfter.queue, latencyBefore.queue),
      device: lessLatency(latencyAfter.device, latencyBefore.device),
    },
    neighbour: less(stalled(neighbour), neighbourBefore),
    host: { some: host, seconds: (performance.now() - began) / 1000 },
  };
}

/** Each page by itself: a walker has nothing read ahead. */
async function fault(): Promise<ScsiLab['faults']> {
  const source = faultSource.start(context);
  const walkers: WalkerBox[] = [];
  const walk = async (): Promise<Faults> => {
    const walker = makeWalkerBox({ cpu: root, memory: root });
    walkers.push(walker);
    const walked = await walker.walk(['--mb', '1', '--file', `/dev/${disk.name}`], 2);
    const living = livingAt(walker.path, walker.id);
    source.read([living]);
    const of = (type: string) => latencyOf(source, living, 'sculptor.memory.fault.latency', [type]);
    return { walked, minor: of('minor'), major: of('major') };
  };
  disk.set({ ndelay: 20_000_000 });
  try {
    // What the first one has mapped stays in memory, whoever drops the rest of it.
    return { cold: await walk(), warm: await walk() };
  } finally {
    disk.set({ delay: 0 });
    for (const walker of walkers) await walker.end();
    source.stop();
  }
}

function latencies(): ScsiLab['latency'] {
  block.read([reader]);
  const of = (phase: string) =>
    latencyOf(block, reader, 'sculptor.disk.latency', [disk.name, 'read', phase]);
  return { queue: of('queue'), device: of('device') };
}

function latencyOf(
  source: Source,
  living: typeof reader,
  metric: string,
  wanted: readonly string[],
): Latency {
  const samples = source.samples(living).filter(sample => sample.metric === metric);
  const found = samples.find(({ attributes }) =>
    wanted.every(value => Object.values(attributes ?? {}).includes(value)),
  )?.value;
  if (typeof found !== 'object' || found.kind !== 'exponential')
    throw new Error(`no ${metric}: ${wanted}`);
  // Four buckets an octave, of which the one of 2^-6 to 2^-5 s begins with bucket -24.
  const around = found.counts.filter((_, i) => (found.offset + i) >> 2 === -6);
  return {
    count: found.count,
    seconds: found.sum,
    around: around.reduce((n, one) => n + one, 0),
  };
}

function lessLatency(a: Latency, b: Latency): Latency {
  return { count: a.count - b.count, seconds: a.seconds - b.seconds, around: a.around - b.around };
}

async function stallDuring(work: () => Promise<unknown>): Promise<Stalled> {
  const [began, before] = [performance.now(), stalled(box)];
  await work();
  const seconds = (performance.now() - began) / 1000;
  return { ...less(stalled(box), before), seconds };
}

type Stalls = Omit<Stalled, 'seconds'>;

function stalled(of: CgroupBox): Stalls {
  const ofCgroup = readMemory(pathOf(of), of.id);
  return {
    some: ofCgroup['sculptor.pressure.time io some'] ?? Number.NaN,
    full: ofCgroup['sculptor.pressure.time io full'] ?? Number.NaN,
    bytes: Number(/rbytes=(\d+)/.exec(of.read('io.stat'))?.[1] ?? 0),
  };
}

function less(a: Stalls, b: Stalls): Stalls {
  return { some: a.some - b.some, full: a.full - b.full, bytes: a.bytes - b.bytes };
}

function hostStalled(): number {
  memory.read([]);
  return toldSeries(memory.host())['sculptor.pressure.time io some'] ?? Number.NaN;
}
