import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import ava, { type ExecutionContext } from 'ava';
import { startBlockScript } from '../../src/agent/bpftrace/block-script.ts';
import { runBpftrace } from '../../src/agent/bpftrace/run.ts';
import {
  type BlockProbe,
  blockWords,
  type DiskDirection,
  diskDirections,
  startBlockProbe,
} from '../../src/agent/probes/block.ts';
import { latencySlots } from '../../src/agent/probes/latency.ts';
import { realClock } from '../../src/cli/clock.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { deviceOf, type LoopDisk, makeLoopDisk } from '../support/loop-disk.ts';
import { beside, needs } from '../support/needs.ts';
import {
  countOf,
  type Octaves,
  parseOctaves,
  quantileOctave,
  toOctaves,
} from '../support/octaves.ts';
import { findOracle } from '../support/oracle.ts';
import { endChild, eventually } from '../support/scene.ts';
import { near } from '../support/sched-scene.ts';

const biolatency = findOracle('biolatency');
const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
const alone = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'loopDevice', 'bpftrace', 'tracefs');

const parityTest = beside(alone);

type Both = { readonly libbpf: BlockProbe; readonly bpftrace: BlockProbe };
let both: Promise<Both> | null = null;
ava.after.always(async () => {
  const { libbpf, bpftrace } = (await both) ?? {};
  libbpf?.stop();
  await bpftrace?.stop();
});

/** Both that look, once for all tests of the file: each looks at a disk of its own. */
async function startBoth(): Promise<Both> {
  const libbpf = startBlockProbe({ native: loadNative(), cgroupV1: true, maxInstances: 1024 });
  const bpftrace = startBlockScript({
    run: runBpftrace,
    cgroupV1: true,
    roots: hostRoots,
    clock: realClock,
    say: (_, text) => console.error(`# ${text}`),
  });
  const trouble = (await bpftrace.attached) ?? null;
  if (trouble !== null) throw new Error(`bpftrace is not attached: ${trouble}`);
  return { libbpf, bpftrace };
}

/** A disk, a cgroup, and both that look at them. */
async function start(t: ExecutionContext, scheduler: 'none' | 'mq-deadline') {
  const disk = makeLoopDisk(64, scheduler);
  t.teardown(disk.end);
  const box = makeCgroupBox('/sys/fs/cgroup/cpu');
  t.teardown(box.end);
  both ??= startBoth();
  return { disk, box, ...(await both) };
}

/** Runs a script of the shell in the box to its end. */
async function run(box: CgroupBox, script: string): Promise<void> {
  const [code] = await once(box.spawn('sh', '-ec', script), 'exit');
  if (code !== 0) throw new Error(`${script}: exit code ${code}`);
}

/** What a cgroup, or all, did on the disk in one direction, or in all. */
function told(probe: BlockProbe, disk: LoopDisk, direction?: DiskDirection, cgroupId?: number) {
  const words = new Float64Array(blockWords.end);
  const ours = probe
    .read()
    .filter(({ key }) => key.device === deviceOf(disk))
    .filter(({ key }) => direction === undefined || key.direction === direction)
    .filter(({ key }) => cgroupId === undefined || key.cgroupId === cgroupId);
  for (const entry of ours)
    for (const [i, word] of entry.words.entries()) words[i] = (words[i] ?? 0) + word;
  return {
    operations: words[blockWords.operations] ?? 0,
    bytes: words[blockWords.bytes] ?? 0,
    queueNs: words[blockWords.queueSumNs] ?? 0,
    deviceNs: words[blockWords.deviceSumNs] ?? 0,
    queueSlots: words.slice(blockWords.queueSlots, blockWords.queueSlots + latencySlots),
    deviceSlots: words.slice(blockWords.deviceSlots, blockWords.deviceSlots + latencySlots),
  };
}

/** Resolves when bpftrace has printed all that was done on a disk which nobody uses any more. */
async function settled(bpftrace: BlockProbe, disk: LoopDisk): Promise<void> {
  let last = -1;
  await eventually('bpftrace has printed what it counted', 30, async () => {
    const before = last;
    await pause(2200);
    last = told(bpftrace, disk).operations;
    return last === before ? true : null;
  });
}

type Told = ReturnType<typeof told>;

function nearAll(t: ExecutionContext, ours: Told, theirs: Told, what: string): void {
  near(t, ours.operations / theirs.operations, 1, 0.02, `${what}: operations`);
  near(t, ours.bytes / theirs.bytes, 1, 0.02, `${what}: bytes`);
  near(t, ours.deviceNs / theirs.deviceNs, 1, 0.02, `${what}: device, ns`);
  // Of a queue where nothing waits for long a part is the other's run: 0.2 to 0.4 µs on a quiet machine, 0.7 on one a third as fast.
  const slack = 0.02 * theirs.queueNs + 1500 * theirs.operations * (theirs.queueNs ? 1 : 0);
  near(t, ours.queueNs, theirs.queueNs, slack, `${what}: queue, ns`);
  // Slots are quarters of an octave; the buckets that are exported by default are octaves.
  const hardlyWaits = theirs.queueNs < 10_000 * theirs.operations;
  for (const phase of ['queueSlots', 'deviceSlots'] as const) {
    const within = phase === 'queueSlots' && hardlyWaits ? 4 : 1;
    const [got, by] = [[...ours[phase]], [...theirs[phase]]];
    t.is(countOf(got), ours.operations);
    for (const ratio of [0.5, 0.99])
      near(
        t,
        quantileOctave(got, ratio),
        quantileOctave(by, ratio),
        within,
        `${what}, ${phase}: p${ratio * 100}`,
      );
  }
}

const dd = (...args: string[]): string => ['dd', 'status=none', ...args].join(' ');

for (const scheduler of ['mq-deadline', 'none'] as const)
  parityTest(
    `with ${scheduler}, libbpf and bpftrace agree: counts, bytes and sums within 2 %, p50 and p99 within one bucket`,
    async t => {
      t.timeout(120_000);
      const { disk, box, libbpf, bpftrace } = await start(t, scheduler);
      const each = ['4k', '16k', '64k'].flatMap(size => [
        dd('if=/dev/zero', `of=${disk.path}`, `bs=${size}`, 'count=300', 'oflag=direct'),
        dd(`if=${disk.path}`, 'of=/dev/null', `bs=${size}`, 'count=300', 'iflag=direct'),
      ]);
      await run(box, each.join('\n'));
      // More at once than the driver takes: they wait in their queue.
      const limit = `/sys/block/${disk.name}/queue/max_sectors_kb`;
      const before = readFileSync(limit, 'utf8');
      t.teardown(() => writeFileSync(limit, before));
      writeFileSync(limit, '4');
      await run(box, dd('if=/dev/zero', `of=${disk.path}`, 'bs=8M', 'count=2', 'conv=fdatasync'));
      await settled(bpftrace, disk);
      for (const [direction, wanted] of [
        ['write', 900 + 4096],
        ['read', 900],
      ] as const) {
        const ours = told(bpftrace, disk, direction, box.id);
        const theirs = told(libbpf, disk, direction, box.id);
        t.log(`${direction}: ${brief(ours)} beside ${brief(theirs)}`);
        t.true(theirs.operations > 0.95 * wanted, `${theirs.operations} of ${wanted}`);
        nearAll(t, ours, theirs, direction);
      }
      t.log(JSON.stringify([bpftrace.stats(), libbpf.stats()]));
    },
  );

const brief = ({ operations, bytes, queueNs, deviceNs }: Told): string =>
  `${operations} of ${bytes} bytes, ${queueNs} and ${deviceNs} ns`;

parityTest(
  'where the same sectors are read by four at once, both agree on counts and sums',
  async t => {
    t.timeout(120_000);
    const { disk, box, libbpf, bpftrace } = await start(t, 'none');
    const reads = dd(`if=${disk.path}`, 'of=/dev/null', 'bs=4k', 'count=500', 'iflag=direct');
    await run(box, `for i in 1 2 3 4; do ${reads} & done; wait`);
    await settled(bpftrace, disk);
    const [ours, theirs] = [
      told(bpftrace, disk, 'read', box.id),
      told(libbpf, disk, 'read', box.id),
    ];
    t.log(`${brief(ours)} beside ${brief(theirs)}`);
    t.log(JSON.stringify(bpftrace.stats()), JSON.stringify(libbpf.stats()));
    t.true(theirs.operations > 1900);
    near(t, ours.operations / theirs.operations, 1, 0.02, 'operations');
    near(t, ours.deviceNs / theirs.deviceNs, 1, 0.1, 'device, ns');
  },
);

// Alone: what was merged is told of all disks together.
alone(
  'a flush, a discard, requests that are merged, and what is forgotten are those of libbpf',
  async t => {
    t.timeout(120_000);
    const { disk, box, libbpf, bpftrace } = await start(t, 'mq-deadline');
    const before = libbpf.stats().irregular.merged;
    await run(box, `${workload} merge --file ${disk.path} --count 100`);
    await run(box, `blkdiscard --length 1048576 ${disk.path}`);
    await run(box, dd('if=/dev/zero', `of=${disk.path}`, 'bs=64k', 'count=16', 'conv=fdatasync'));
    await settled(bpftrace, disk);
    for (const direction of diskDirections)
      for (const id of [box.id, 1]) {
        const [ours, theirs] = [bpftrace, libbpf].map(probe => {
          const { operations, bytes } = told(probe, disk, direction, id);
          return { operations, bytes };
        });
        t.deepEqual(ours, theirs, `${direction} of ${id}`);
      }
    t.is(told(bpftrace, disk, 'discard', box.id).bytes, 1_048_576);
    t.is(told(bpftrace, disk, 'flush').operations, 1);
    const { irregular, lost } = bpftrace.stats();
    t.log(JSON.stringify({ irregular, lost }));
    const merged = libbpf.stats().irregular.merged - before;
    near(t, irregular.merged, merged, 1, 'merged');
    t.true(merged >= 100);

    const key = { cgroupId: box.id, device: deviceOf(disk), direction: 'discard' } as const;
    t.deepEqual(
      bpftrace.forget([key, { ...key, cgroupId: 7 }]).map(entry => entry.words[blockWords.bytes]),
      [1_048_576],
    );
    t.is(told(bpftrace, disk, 'discard').operations, 0);
    t.true(told(bpftrace, disk, 'write').operations > 0);
  },
);

/** Watches one disk as biolatency does; `end` answers its histogram. */
async function startOracle(t: ExecutionContext, path: string, disk: LoopDisk) {
  // By lines: it says when it has begun.
  const args = ['-oL', path, '-d', disk.name];
  const oracle = spawn('stdbuf', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => endChild(oracle));
  let printed = '';
  oracle.stdout.on('data', text => {
    printed += text;
  });
  await eventually('biolatency traces', 20, () => (printed.includes('Tracing') ? true : null));
  return {
    end: async (): Promise<Octaves> => {
      const closed = once(oracle, 'close');
      oracle.kill('SIGINT');
      await closed;
      return parseOctaves(printed);
    },
  };
}

/** Reads and writes of 4 KB to 256 KB, some of them four at a time. */
const mixed = ({ path }: LoopDisk): string => `for size in 4k 16k 64k; do
  dd if=/dev/zero of=${path} bs=$size count=200 oflag=direct status=none
  dd if=${path} of=/dev/null bs=$size count=200 iflag=direct status=none
done
for i in 1 2 3 4; do dd if=/dev/zero of=${path} bs=256k count=50 oflag=direct status=none & done; wait`;

(biolatency ? parityTest : ava.skip)(
  'counts of both are those of biolatency within 2 %, p50 and p99 within one of its buckets',
  async t => {
    t.timeout(120_000);
    const { disk, box, libbpf, bpftrace } = await start(t, 'mq-deadline');
    const inDevice = await startOracle(t, biolatency ?? '', disk);
    await run(box, mixed(disk));
    const theirs = await inDevice.end();
    await settled(bpftrace, disk);
    for (const [by, probe] of Object.entries({ libbpf, bpftrace })) {
      const ours = toOctaves(told(probe, disk).deviceSlots);
      t.log(`device: biolatency ${theirs}, ${by} ${ours}`);
      // 1,400 are asked for; neighbouring writes of the four may be merged into one.
      t.true(countOf(ours) >= 1400 * 0.95, `${countOf(ours)} operations`);
      near(t, countOf(ours) / countOf(theirs), 1, 0.02, `counts by ${by}`);
      for (const ratio of [0.5, 0.99]) {
        const [got, wanted] = [quantileOctave(ours, ratio), quantileOctave(theirs, ratio)];
        near(t, got, wanted, 1, `p${ratio * 100} by ${by}`);
      }
    }
  },
);
