/**
 * A walker on a chosen node, files that do not fit, memory that is swapped, a file that is written, two spinners on one CPU, and a
 * CPU that goes and comes, on the kernel it is started on; prints one JSON object (`MemoryLab`). It asserts nothing: the test outside
 * does.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { memorySource } from '../../../src/agent/memory/memory-source.ts';
import { startFaultsProbe } from '../../../src/agent/probes/faults.ts';
import { startSchedProbe } from '../../../src/agent/probes/sched.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { listThreads } from '../../../src/linux/procfs.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { readCpuIds } from '../../../src/linux/topology.ts';
import { steppedClock } from '../../support/stepped-clock.ts';
import { readByTurns, type ToldSeries, toldSeries } from '../../support/told-series.ts';
import { makeWalkerBox, type Walked, type WalkerBox } from '../../support/walker.ts';

export type MemoryLab = {
  readonly walked: Walked;
  /** Minor faults of the walker's cgroup by the probe. */
  readonly minorFaults: number;
  /** 64 MB of node 1, walked on CPU 1. */
  readonly node1: ToldSeries;
  /** 64 MB of node 1, walked on CPU 3. */
  readonly local: ToldSeries;
  /** 16 MB of huge pages of node 1. */
  readonly huge: ToldSeries;
  /** 64 MB of files, read by a cgroup that may have 32. */
  readonly squeezed: ToldSeries;
  /** The same file read over and over by one task of that cgroup, for so many seconds; and of the host, what came meanwhile. */
  readonly reread: ToldSeries;
  readonly rereadSeconds: number;
  readonly rereadHost: ToldSeries;
  /** One task that takes more in a cgroup that is over its memory.high, beside a spinner on the same CPU: what came in so many seconds. */
  readonly beside: ToldSeries;
  readonly besideSeconds: number;
  /**
   * 48 MB that a cgroup of 32 wrote to over and over, with a swap; of the host, what came meanwhile; and pages that were swapped in by
   * its own count.
   */
  readonly swapped: ToldSeries;
  readonly swappedHost: ToldSeries;
  readonly swappedIn: number;
  /** 32 MB of a file that a cgroup has written: before it is on the disk, and after. */
  readonly written: Readonly<Record<'dirty' | 'synced', ToldSeries>>;
  /** A file of so many pages, more than the machine has, read once; and of the host, what came meanwhile. */
  readonly walkedFile: {
    readonly pages: number;
    readonly memoryPages: number;
    readonly instance: ToldSeries;
    readonly host: ToldSeries;
    /** The same by /proc/vmstat. */
    readonly byKernel: ToldSeries;
  };
  /** 48 MB of node 0, touched without end by a task that was moved to node 1: what came meanwhile, and of the host. */
  readonly balanced: { readonly instance: ToldSeries; readonly host: ToldSeries };
  /** What came while two spinners shared a CPU for so many seconds. */
  readonly spun: ToldSeries;
  readonly spunSeconds: number;
  readonly host: ToldSeries;
  /** Faults of 16 MB walks on CPU 3: online, offline meanwhile and not followed yet, followed. */
  readonly hotPlug: readonly number[];
};

const root = '/sys/fs/cgroup';
/** The kernel has PSI by CPU, and averages. */
const onOneCpu = ['taskset', '-c', '2'];
/** How often 48 MB are written to, of which at least 16 are in the swap at any time. */
const swapRounds = 8;
const spinner = ['/checkout/build/sculpt-workload', 'spin'];
writeFileSync(`${root}/cgroup.subtree_control`, '+cpu +memory +io +hugetlb');
execFileSync('modprobe', ['zram', 'num_devices=2']);
execFileSync('modprobe', ['ext4']);
const layout = readCgroupLayout(hostRoots);
const clock = steppedClock();
const common = { native: loadNative(), cgroupV1: layout.version === 1, maxInstances: 1024 };
const probe = startFaultsProbe({ ...common, onlineCpus: readCpuIds(hostRoots).online });
const sched = startSchedProbe({ ...common, nodeOfCpu: [0, 0, 1, 1], possibleCpus: 4 });
const source = memorySource.start({
  config: { detailIntervalSeconds: 10 },
  roots: hostRoots,
  layout,
  runByCpu: () => {
    sched.readTotals();
    return sched.readRunByCpu();
  },
  clock,
} as unknown as SourceContext);
const readTold = readByTurns(source, clock);
const read = ({ path, id }: WalkerBox): ToldSeries => readTold(path, id);
const boxes: WalkerBox[] = [];
try {
  const onNode1 = box();
  const walked = await onNode1.walk(['--mb', '64', '--node', '1'], 1);
  const minorFaults = faultsOf(onNode1);
  const node1 = read(onNode1);
  const nearby = box();
  await nearby.walk(['--mb', '64', '--node', '1'], 3);
  const local = read(nearby);
  const huge = await useHugePages();
  const squeezing = { ...(await squeeze()), ...(await takeBeside()) };
  const swapping = await swap();
  const filling = await fillDisk();
  const balanced = await balance();
  const { spun, spunSeconds } = await spin();
  const hotPlug = await plug();
  const host = toldSeries(source.host());
  const lab: MemoryLab = {
    walked,
    minorFaults,
    node1,
    local,
    huge,
    ...squeezing,
    ...swapping,
    ...filling,
    balanced,
    spun,
    spunSeconds,
    host,
    hotPlug,
  };
  console.log(JSON.stringify(lab));
} finally {
  for (const one of boxes) await one.end();
  source.stop();
  probe.stop();
  sched.stop();
}

function box(): WalkerBox {
  const made = makeWalkerBox({ cpu: root, memory: root });
  boxes.push(made);
  return made;
}

function faultsOf({ id }: WalkerBox): number {
  return probe.readTotals().get(id)?.minor.latencyCount ?? 0;
}

async function useHugePages(): Promise<ToldSeries> {
  const reserve = '/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages';
  writeFileSync(reserve, '8');
  const large = box();
  await large.walk(['--mb', '16', '--node', '1', '--huge'], 3);
  return read(large);
}

type Squeezed = Pick<MemoryLab, 'squeezed' | 'reread' | 'rereadSeconds' | 'rereadHost'>;

async function squeeze(): Promise<Squeezed> {
  const small = box();
  writeFileSync(`${small.memory}/memory.max`, String(32 << 20));
  writeFileSync(`${small.memory}/memory.swap.max`, '0');
  // On the root of the outer machine, and not in this one's page cache: the compiler's library.
  const find = ['/usr/lib', '-type', 'f', '-size', '+64M', '-print', '-quit'];
  const file = execFileSync('find', find, { encoding: 'utf8' }).trim();
  await small.walk(['--mb', '64', '--file', file]);
  const squeezed = read(small);
  const [began, hostBefore] = [performance.now(), hostNow()];
  const readOn = `while True:\n f = open('${file}', 'rb', 0)\n while f.read(1 << 20): pass`;
  small.run(...onOneCpu, 'python3', '-c', readOn);
  const reread = await upTo(40, () => {
    const now = read(small);
    return (now['sculptor.memory.refaults file'] ?? 0) > 5000 ? now : null;
  });
  const rereadSeconds = (performance.now() - began) / 1000;
  const rereadHost = less(hostNow(), hostBefore);
  const last = reread ?? read(small);
  await small.end();
  return { squeezed, reread: last, rereadSeconds, rereadHost };
}

/** Who takes more is made to sleep by the kernel, where nothing can be reclaimed. The spinner has all that it needs before. */
async function takeBeside(): Promise<Pick<MemoryLab, 'beside' | 'besideSeconds'>> {
  const high = box();
  writeFileSync(`${high.memory}/memory.high`, String(16 << 20));
  writeFileSync(`${high.memory}/memory.swap.max`, '0');
  high.run(...onOneCpu, ...spinner);
  await sleep(2000);
  const take = "taken = []\nwhile True: taken.append(b'x' * (1 << 20))";
  high.run(...onOneCpu, 'python3', '-c', take);
  await upTo(30, () => ((read(high)['container.memory.usage'] ?? 0) > 16 << 20 ? true : null));
  const [began, before] = [performance.now(), read(high)];
  await sleep(6000);
  const beside = less(read(high), before);
  const besideSeconds = (performance.now() - began) / 1000;
  await high.end();
  return { beside, besideSeconds };
}

async function swap(): Promise<Pick<MemoryLab, 'swapped' | 'swappedHost' | 'swappedIn'>> {
  writeFileSync('/sys/block/zram0/disksize', '256M');
  execFileSync('mkswap', ['/dev/zram0'], { stdio: 'ignore' });
  execFileSync('swapon', ['/dev/zram0']);
  const small = box();
  writeFileSync(`${small.memory}/memory.max`, String(32 << 20));
  const done = '/tmp/sculptor-swapped';
  const write = [
    'import time',
    "b = bytearray(b'x') * (48 << 20)",
    `for n in range(1, ${swapRounds}):`,
    '  for at in range(0, len(b), 4096): b[at] = n',
    `open('${done}', 'w')`,
    'time.sleep(1000)',
  ];
  // Newer kernels write no page of zeros to a swap, nor count it: none is.
  const [before, hostBefore] = [vmstat('pswpin'), hostNow()];
  // Of a task that moves the kernel forgets what it noted on a node that the cgroup has no pages of (count_shadow_nodes).
  small.run(...onOneCpu, 'python3', '-c', write.join('\n'));
  await upTo(60, () => (existsSync(done) ? true : null));
  const [swapped, swappedIn] = [read(small), vmstat('pswpin') - before];
  const swappedHost = less(hostNow(), hostBefore);
  await small.end();
  execFileSync('swapoff', ['/dev/zram0']);
  return { swapped, swappedHost, swappedIn };
}

async function fillDisk(): Promise<Pick<MemoryLab, 'written' | 'walkedFile'>> {
  const folder = '/tmp/sculptor-disk';
  writeFileSync('/sys/block/zram1/disksize', '256M');
  execFileSync('mkfs.ext4', ['-q', '/dev/zram1']);
  mkdirSync(folder);
  execFileSync('mount', ['-t', 'ext4', '/dev/zram1', folder]);
  const filled = { written: await writeFile(folder), walkedFile: await walkFile(folder) };
  execFileSync('umount', [folder]);
  return filled;
}

/** The kernel's own threads begin to write what is 30 s old, a tenth of all memory, or ext4's when it would take half of the disk. */
async function writeFile(folder: string): Promise<MemoryLab['written']> {
  const writer = box();
  const [file, isWritten] = [`${folder}/written`, '/tmp/sculptor-is-written'];
  const fill = `head -c ${32 << 20} /dev/zero >${file} && touch ${isWritten} && exec sleep 1000`;
  writer.run('sh', '-c', fill);
  await upTo(20, () => (existsSync(isWritten) ? true : null));
  const dirty = read(writer);
  execFileSync('sync', [file]);
  const synced = read(writer);
  await writer.end();
  // Its pages are nobody's by now: what is reclaimed next is to be another's.
  rmSync(file);
  return { dirty, synced };
}

/** Of a file system that has none of its pages: what is read of it is made, not moved. */
async function walkFile(folder: string): Promise<MemoryLab['walkedFile']> {
  const done = '/tmp/sculptor-walked';
  const memory = /^MemTotal:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'));
  const memoryPages = Number(memory?.[1]) / 4;
  const pages = Math.round(memoryPages * 1.25);
  writeFileSync(`${folder}/file`, '');
  truncateSync(`${folder}/file`, pages * 4096);
  const large = box();
  const byKernelNow = (): ToldSeries => ({
    'sculptor.memory.reclaim.scanned background': vmstat('pgscan_kswapd'),
    'sculptor.memory.reclaim.reclaimed background': vmstat('pgsteal_kswapd'),
  });
  const [hostBefore, byKernelBefore] = [hostNow(), byKernelNow()];
  large.run('sh', '-c', `cat ${folder}/file >/dev/null && touch ${done} && exec sleep 1000`);
  await upTo(120, () => (existsSync(done) ? true : null));
  const [host, byKernel] = [less(hostNow(), hostBefore), less(byKernelNow(), byKernelBefore)];
  const instance = read(large);
  await large.end();
  return { pages, memoryPages, instance, host, byKernel };
}

function vmstat(name: string): number {
  const found = new RegExp(`^${name} (\\d+)$`, 'm').exec(readFileSync('/proc/vmstat', 'utf8'));
  return Number(found?.[1]);
}

function hostNow(): ToldSeries {
  source.read([]);
  return toldSeries(source.host());
}

function less(after: ToldSeries, before: ToldSeries): ToldSeries {
  return Object.fromEntries(
    Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]),
  );
}

/** The kernel moves memory to who touches it: it scans a process by its run time, a second and more apart. */
async function balance(): Promise<MemoryLab['balanced']> {
  const moved = box();
  // Each page by a fault of its own.
  writeFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'never');
  const touch = 'const b=Buffer.alloc(48<<20);for(;;)for(let i=0;i<b.length;i+=4096)b[i]++';
  moved.run('taskset', '-c', '0', process.execPath, '-e', touch);
  await upTo(20, () => ((read(moved)['container.memory.usage'] ?? 0) > 40e6 ? true : null));
  const [before, instanceBefore] = [hostNow(), read(moved)];
  const processes = readFileSync(`${moved.memory}/cgroup.procs`, 'utf8').trim().split('\n');
  const threads = processes.flatMap(tgid => listThreads(hostRoots, Number(tgid)));
  common.native.setAffinity(Int32Array.from(threads), Int32Array.of(3));
  const migrations = 'sculptor.memory.numa.migrations';
  await upTo(60, () =>
    (hostNow()[migrations] ?? 0) - (before[migrations] ?? 0) > 2000 ? true : null,
  );
  const instance = less(read(moved), instanceBefore);
  return { host: less(hostNow(), before), instance };
}

async function upTo<T>(seconds: number, look: () => T | null): Promise<T | null> {
  const until = performance.now() + seconds * 1000;
  for (;;) {
    const found = look();
    if (found !== null || performance.now() > until) return found;
    await sleep(1000);
  }
}

async function spin(): Promise<{ spun: ToldSeries; spunSeconds: number }> {
  const crowded = box();
  crowded.run(...onOneCpu, ...spinner, '--threads', '2');
  // A machine that is emulated takes a while to start them.
  await sleep(3000);
  const before = read(crowded);
  const began = performance.now();
  await sleep(4000);
  const spun = less(read(crowded), before);
  return { spun, spunSeconds: (performance.now() - began) / 1000 };
}

async function plug(): Promise<number[]> {
  const pinned = box();
  let before = 0;
  const walk = async (): Promise<number> => {
    await pinned.walk(['--mb', '16'], 3);
    const now = faultsOf(pinned);
    const more = now - before;
    before = now;
    return more;
  };
  const online = await walk();
  setOnline(3, false);
  probe.follow(readCpuIds(hostRoots).online);
  setOnline(3, true);
  const notFollowed = await walk();
  probe.follow(readCpuIds(hostRoots).online);
  return [online, notFollowed, await walk()];
}

function setOnline(cpu: number, online: boolean): void {
  writeFileSync(`/sys/devices/system/cpu/cpu${cpu}/online`, online ? '1' : '0');
}
