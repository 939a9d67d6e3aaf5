/**
 * DAMON as it is on the kernel this is started on: a process that touches a known part of its memory, two guests under KVM of
 * which one does, a whole agent that tells of all three and not of some others, and others who want DAMON as well.
 * `node access.ts GUEST_FOLDER` prints one JSON object (`AccessLab`). It asserts nothing: the test outside does.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SculptorError } from '../../../src/contract/errors.ts';
import { takeDamon } from '../../../src/linux/damon.ts';
import {
  joinRanges,
  lengthOf,
  openMappings,
  openProcMappings,
  type Range,
} from '../../../src/linux/mappings.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { readProcessMemory } from '../../../src/linux/procfs.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { removeCgroup } from '../../support/cgroup-box.ts';
import { startTold, type Told } from '../../support/told-agent.ts';

export type AccessLab = {
  /** A process of Node with 256 MB that touches 64 of them over and over, and what was found to be used in each window. */
  readonly toucher: {
    readonly usedBytes: readonly number[];
    readonly residentBytes: number;
    readonly mapped: { readonly ranges: number; readonly bytes: number };
  };
  /** CPU time of the kdamond for each window, of this process to set it up, and how long the answers were waited for. */
  readonly kdamond: {
    readonly seconds: number;
    readonly begunSeconds: number;
    readonly waitedSeconds: readonly number[];
  };
  /** What came of taking DAMON while … */
  readonly refused: Readonly<Record<'held' | 'foreign' | 'reclaim', string>>;
  /** What came of it after who held it was killed. */
  readonly afterKill: string;
  /** What came of it for root without capabilities, another user with CAP_DAC_OVERRIDE, and one without. */
  readonly by: Readonly<Record<'root' | 'capable' | 'nobody', string>>;
  /** Bytes that are mapped, by the iterator and by /proc. */
  readonly mapped: Readonly<Record<'toucher' | 'busy' | 'still', readonly number[]>>;
  readonly busy: GuestMemory;
  readonly still: GuestMemory;
  /** The cgroup of the process that touches 64 of its 256 MB, and of one that sleeps. */
  readonly cgroup: Memory;
  /** Of how many instances it was not told, by reason: of the host as it is, with those of `stageUntold`, and without them again. */
  readonly unknown: Readonly<Record<'before' | 'staged' | 'after', Unknown>>;
  readonly source: string | undefined;
  /** When the agent had stopped. */
  readonly left: { readonly kdamonds: string; readonly threads: number };
};

export type Memory = {
  readonly residentBytes: number;
  readonly referenced: number;
  readonly idle: number;
};

export type Unknown = Readonly<Record<string, number>>;

/** Both guests have written to all of 64 MB once, and one goes on. */
export type GuestMemory = Memory & {
  /** Used in 10 s by the host's own page tables, which a guest does not go through. */
  readonly byHostTables: number;
};

const damon = '/sys/kernel/mm/damon/admin/kdamonds';
const reclaim = '/sys/module/damon_reclaim/parameters/enabled';
const options = { kdamonds: 2, windowSeconds: 5, parts: 500 };
const [folder = '', role = ''] = process.argv.slice(2);
const self = fileURLToPath(import.meta.url);
const touchers = 'touchers';
const uuids = {
  busy: 'c0000000-0000-4000-8000-000000000001',
  still: 'c0000000-0000-4000-8000-000000000002',
};

// Who is to be refused DAMON may load no probe.
const mappings = role === 'taker' ? null : openMappings(loadNative());

if (role === 'holder') {
  const tgid = Number(process.argv[4]);
  await takeDamon(hostRoots, options).begin(1, tgid, await rangesOf(tgid));
  console.log('holds');
  await sleep(1e8);
}

if (role === 'taker') {
  console.log(outcome());
  process.exit(0);
}

const children: ChildProcess[] = [];
try {
  // Each page by itself.
  writeFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'never');
  execFileSync('modprobe', ['kvm_amd']);
  const guests = { busy: guest('busy', 10_000), still: guest('still', 0) };
  const touching = await startToucher();
  const toucher = await measure(touching);
  const others = await tryOthers(touching);
  for (const name of ['busy', 'still'] as const) await until(120, () => hasBegun(name));
  const by = {
    root: takenBy(0, []),
    capable: takenBy(64_901, ['dac_override']),
    nobody: takenBy(64_901, []),
  };
  const mapped = {
    toucher: await mappedBytes(touching),
    busy: await mappedBytes(guests.busy),
    still: await mappedBytes(guests.still),
  };
  const lab: AccessLab = { ...toucher, ...others, by, mapped, ...(await tellOf(guests, touching)) };
  console.log(JSON.stringify(lab));
} finally {
  for (const child of children) child.kill('SIGKILL');
}
process.exit(0);

function start(command: string, args: readonly string[], env = {}): ChildProcess {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  children.push(child);
  return child;
}

/** In a cgroup of the root's, which is made where it is not there. */
function startIn(name: string, command: readonly string[], env = {}): ChildProcess {
  const cgroup = `/sys/fs/cgroup/${name}`;
  mkdirSync(cgroup, { recursive: true });
  return start('sh', ['-c', `echo $$ >${cgroup}/cgroup.procs; exec "$0" "$@"`, ...command], env);
}

/** QEMU's process. */
function guest(name: keyof typeof uuids, pagesPerSecond: number): number {
  const script = `${import.meta.dirname}/../guest/run-guest.sh`;
  const child = startIn(
    name,
    [
      ...['sh', script, folder, 'kvm'],
      ...[name, uuids[name], `/tmp/${name}.qmp`, `dirtying,64,${pagesPerSecond}`],
    ],
    { MEMORY: '256', CPUS: '1' },
  );
  child.stdout?.pipe(createWriteStream(`/tmp/${name}.log`));
  return child.pid ?? 0;
}

function hasBegun(name: string): true | null {
  return /^READY/m.test(readFileSync(`/tmp/${name}.log`, 'utf8')) || null;
}

async function startToucher(): Promise<number> {
  // Its heap lies scattered over terabytes of addresses.
  const touch = `const memory = Buffer.alloc(256 << 20);
const touch = megabytes => { for (let i = 0; i < megabytes << 20; i += 4096) memory[i] = 1; };
touch(256);
console.log('ready');
setInterval(() => touch(64), 500);`;
  startIn(touchers, ['sleep', '10000']);
  return firstLine(startIn(touchers, [process.execPath, '-e', touch]));
}

async function mappedBytes(tgid: number): Promise<number[]> {
  const both = [mappings, openProcMappings(hostRoots)];
  return Promise.all(both.map(async one => lengthOf((await one?.of(tgid)) ?? [])));
}

async function rangesOf(tgid: number): Promise<Range[]> {
  return joinRanges((await mappings?.of(tgid)) ?? [], options.parts);
}

function residentOf(tgid: number): number {
  return readProcessMemory(hostRoots, tgid)?.residentBytes ?? 0;
}

async function firstLine(child: ChildProcess): Promise<number> {
  await new Promise(resolve => child.stdout?.once('data', resolve));
  return child.pid ?? 0;
}

async function measure(tgid: number): Promise<Pick<AccessLab, 'toucher' | 'kdamond'>> {
  const mine = takeDamon(hostRoots, options);
  try {
    const began = performance.now();
    const ranges = await rangesOf(tgid);
    const cpuBegan = process.cpuUsage();
    await mine.begin(0, tgid, ranges);
    const { user, system } = process.cpuUsage(cpuBegan);
    const [usedBytes, waitedSeconds]: [number[], number[]] = [[], []];
    const cpuBefore = kdamondSeconds();
    let before = { windows: 0, usedBytes: 0 };
    for (let look = 2; look <= 4; look += 1) {
      await sleep(began + look * options.windowSeconds * 1000 - 500 - performance.now());
      const asked = performance.now();
      const now = await mine.ask(0);
      waitedSeconds.push((performance.now() - asked) / 1000);
      usedBytes.push((now.usedBytes - before.usedBytes) / (now.windows - before.windows));
      before = now;
    }
    const seconds = (kdamondSeconds() - cpuBefore) / (before.windows + 1);
    const residentBytes = residentOf(tgid);
    const mapped = { ranges: ranges.length, bytes: lengthOf(ranges) };
    const kdamond = { seconds, waitedSeconds, begunSeconds: (user + system) / 1e6 };
    return { toucher: { usedBytes, residentBytes, mapped }, kdamond };
  } finally {
    await mine.end(0);
    mine.giveBack();
  }
}

async function tryOthers(tgid: number): Promise<Pick<AccessLab, 'refused' | 'afterKill'>> {
  const holder = start(process.execPath, [self, folder, 'holder', String(tgid)]);
  await firstLine(holder);
  const held = outcome();
  const gone = new Promise(resolve => holder.once('close', resolve));
  holder.kill('SIGKILL');
  await gone;
  const afterKill = outcome();
  writeFileSync(`${damon}/nr_kdamonds`, '1');
  const foreign = outcome();
  writeFileSync(`${damon}/nr_kdamonds`, '0');
  writeFileSync(reclaim, 'Y');
  await until(10, () => (kdamonds().length > 0 ? true : null));
  const reclaiming = outcome();
  writeFileSync(reclaim, 'N');
  await until(20, () => (kdamonds().length === 0 ? true : null));
  return { refused: { held, foreign, reclaim: reclaiming }, afterKill };
}

function outcome(): string {
  try {
    takeDamon(hostRoots, options).giveBack();
    return 'taken';
  } catch (error) {
    return error instanceof SculptorError ? error.code : String(error);
  }
}

/** As the user `uid` with these capabilities and no others. */
function takenBy(uid: number, capabilities: readonly string[]): string {
  const list = ['-all', ...capabilities.map(name => `+${name}`)].join();
  const user = uid === 0 ? [] : ['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups'];
  const sets = ['--inh-caps', list, '--ambient-caps', list, '--bounding-set', list];
  const command = [process.execPath, '--no-wasm-dynamic-tiering', self, folder, 'taker'];
  const args = [...user, ...sets, '--no-new-privs', ...command];
  return execFileSync('setpriv', args, { encoding: 'utf8' }).trim();
}

async function tellOf(
  tgids: Readonly<Record<keyof typeof uuids, number>>,
  toucher: number,
): Promise<Pick<AccessLab, 'busy' | 'still' | 'cgroup' | 'unknown' | 'source' | 'left'>> {
  const byHostTables = await referencedByHost(Object.values(tgids));
  const told = await startTold({ profile: 'full', detailIntervalSeconds: 2 });
  const last = (metric: 'referenced' | 'idle', id: string) =>
    told.pointsOf(`sculptor.memory.${metric}`, id).at(-1)?.value;
  const ids = [...Object.values(uuids), `/${touchers}`];
  // What was under way when the agent was new is over, and one more.
  await until(200, () => ids.every(id => last('idle', id) !== undefined) || null);
  const of = (id: string, tgid: number): Memory => ({
    residentBytes: residentOf(tgid),
    referenced: Number(last('referenced', id)),
    idle: Number(last('idle', id)),
  });
  const found = {
    busy: { ...of(uuids.busy, tgids.busy), byHostTables: byHostTables[0] ?? 0 },
    still: { ...of(uuids.still, tgids.still), byHostTables: byHostTables[1] ?? 0 },
    cgroup: of(`/${touchers}`, toucher),
  };
  const unknown = await leaveUntold(told);
  const source = told.agent.status().sources['access'];
  await told.stop();
  const kdamondsLeft = readFileSync(`${damon}/nr_kdamonds`, 'utf8').trim();
  return {
    ...found,
    unknown,
    source,
    left: { kdamonds: kdamondsLeft, threads: kdamonds().length },
  };
}

/** What an agent that goes on says of instances of which it is not told. */
async function leaveUntold(told: Told): Promise<AccessLab['unknown']> {
  const unknown = (): Unknown =>
    Object.fromEntries(
      told
        .pointsOf('sculptor.agent.access.unknown', 'test-host')
        .map(({ attributes, value }) => [String(attributes['sculptor.reason']), Number(value)]),
    );
  const sum = () => Object.values(unknown()).reduce((all, one) => all + one, 0);
  const upTo = async (seconds: number, look: () => boolean): Promise<Unknown> => {
    const end = performance.now() + seconds * 1000;
    while (!look() && performance.now() < end) await sleep(500);
    return unknown();
  };
  const before = unknown();
  const sumBefore = sum();
  const end = await stageUntold();
  const staged = await upTo(40, () => sum() >= sumBefore + 3);
  await end();
  return { before, staged, after: await upTo(20, () => sum() <= sumBefore) };
}

/**
 * Cgroups of which one has a `sleep`, one 32 MB in each of two processes, and one a process that has mapped 8 GB and has 20 MB of it
 * in memory. Answers what ends them.
 */
async function stageUntold(): Promise<() => Promise<void>> {
  const map = `import mmap, time
noreserve = 0x4000
mapped = mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | noreserve)
memory = bytearray(b'1') * (20 << 20)
print('ready', flush=True)
time.sleep(10000)`;
  const walk = () => start('/checkout/build/sculpt-workload', ['walk', '--mb', '32']);
  const staged: Readonly<Record<string, ChildProcess[]>> = {
    little: [],
    spread: [walk(), walk()],
    sparse: [start('python3', ['-c', map])],
  };
  for (const [name, processes] of Object.entries(staged)) {
    mkdirSync(`/sys/fs/cgroup/${name}`);
    // They have their memory before something runs there, by which the agent comes to know of it.
    for (const tgid of await Promise.all(processes.map(firstLine)))
      writeFileSync(`/sys/fs/cgroup/${name}/cgroup.procs`, `${tgid}`);
    processes.push(startIn(name, ['sleep', '10000']));
  }
  return async () => {
    for (const child of Object.values(staged).flat()) child.kill('SIGKILL');
    for (const name of Object.keys(staged)) await removeCgroup(`/sys/fs/cgroup/${name}`);
  };
}

async function referencedByHost(tgids: readonly number[]): Promise<number[]> {
  // NUMA balancing takes pages of guests out of these tables, and whoever touches them next puts them back, as used.
  const balancing = '/proc/sys/kernel/numa_balancing';
  const before = readFileSync(balancing, 'utf8');
  writeFileSync(balancing, '0');
  await sleep(5000);
  for (const tgid of tgids) writeFileSync(`/proc/${tgid}/clear_refs`, '1');
  await sleep(10_000);
  const referenced = tgids.map(tgid => {
    const text = readFileSync(`/proc/${tgid}/smaps_rollup`, 'utf8');
    return Number(/^Referenced:\s+(\d+) kB$/m.exec(text)?.[1]) * 1024;
  });
  writeFileSync(balancing, before);
  return referenced;
}

/** Threads of the kernel that monitor. */
function kdamonds(): string[] {
  return readdirSync('/proc').filter(
    name => /^\d+$/.test(name) && /^kdamond/.test(commandOf(name)),
  );
}

function commandOf(tgid: string): string {
  try {
    return readFileSync(`/proc/${tgid}/comm`, 'utf8');
  } catch {
    return '';
  }
}

function kdamondSeconds(): number {
  const ns = kdamonds().map(tgid =>
    Number(readFileSync(`/proc/${tgid}/schedstat`, 'utf8').split(' ')[0]),
  );
  return ns.reduce((sum, one) => sum + one, 0) / 1e9;
}

async function until(seconds: number, look: () => true | null): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (look() === null) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${look}`);
    await sleep(500);
  }
}
