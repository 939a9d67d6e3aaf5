import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { blockSource } from '../../../src/agent/block/block-source.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { type DiskDirection, diskDirections, layout } from '../../../src/agent/probes/block.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import type { ExplicitHistogram, ExponentialHistogram } from '../../../src/contract/telemetry.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
import type { Sample } from '../../../src/otlp/sample.ts';
import { makeTree, type Tree } from '../../linux/tree.ts';
import { sumsOf, wordsOf } from '../../support/map-sums.ts';

const built = new URL('../../../build/bpf/block.bpf.o', import.meta.url);
const hasProbe = existsSync(built) && existsSync('/sys/kernel/btf/vmlinux');
const withProbe = hasProbe ? test : test.skip;
if (!hasProbe) console.error('# skipped: no build/bpf/block.bpf.o, or no BTF of the kernel');

const device = (major: number, minor: number) => major * 2 ** 20 + minor;
const vda = device(254, 0);

/** The kernel's side: operations of 4096 bytes each, 1 µs in the queue and 1 ms in the device, in the last slot. */
function fakeKernel() {
  const counts = new Map<string, number>();
  const attached: string[] = [];
  const stats = Buffer.alloc(layout.stats.bytes);
  const keyOf = (id: number, dev: number, direction: DiskDirection): Buffer => {
    const key = Buffer.alloc(layout.key.bytes);
    key.writeBigUInt64LE(BigInt(id), layout.key.cgroupId);
    key.writeUInt32LE(dev, layout.key.device);
    key.writeUInt32LE(diskDirections.indexOf(direction), layout.key.direction);
    return key;
  };
  const valueWith = (count: number): Buffer => {
    const value = Buffer.alloc(layout.totals.bytes);
    const write = (at: number, word: number) => value.writeBigUInt64LE(BigInt(word), at);
    write(layout.totals.operations, count);
    write(layout.totals.bytesDone, count * 4096);
    write(layout.totals.queueSumNs, count * 1000);
    write(layout.totals.deviceSumNs, count * 1_000_000);
    write(layout.totals.queueSlots + 8 * 40, count);
    write(layout.totals.deviceSlots + 8 * 159, count);
    return value;
  };
  const object: Partial<BpfObject> = {
    attach: program => void attached.push(program),
    readSums: () =>
      sumsOf([...counts].map(([key, count]) => [Buffer.from(key, 'hex'), valueWith(count)])),
    lookupSums: (map, key) => {
      if (map === 'stats') return wordsOf(stats);
      const count = counts.get(key.toString('hex'));
      return count === undefined ? null : wordsOf(valueWith(count));
    },
    deleteKeys: (_, keys) => {
      for (let at = 0; at < keys.length; at += layout.key.bytes)
        counts.delete(keys.toString('hex', at, at + layout.key.bytes));
      return 0;
    },
    programStats: () => ({ block_rq_complete: { runs: 0, runNs: 0, missed: 2 } }),
    close: () => undefined,
  };
  return {
    object,
    attached,
    counts,
    stats,
    set: (id: number, dev: number, direction: DiskDirection, count: number) =>
      void counts.set(keyOf(id, dev, direction).toString('hex'), count),
  };
}

const disks = { 'sys/dev/block/254:0/uevent': 'MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk' };

function start(t: ExecutionContext, object: Partial<BpfObject>, tree: Tree = makeTree(t, disks)) {
  const source = blockSource.start({
    config: { maxInstances: 16 },
    native: { loadObject: () => object } as unknown as Native,
    roots: tree,
    layout: { version: 2, cpu: tree.cgroup, cpuset: null },
  } as unknown as SourceContext);
  t.teardown(source.stop);
  return source;
}

const life = (...ids: number[]) =>
  ({ start: 5, members: new Map(ids.map(id => [id, `/${id}`])) }) as unknown as LivingInstance;

/** A number as it is, a histogram as its count and sum, and the only bucket of it. */
const told = (samples: readonly Omit<Sample, 'start'>[], metric: string) =>
  samples
    .filter(sample => sample.metric === metric)
    .map(({ attributes, value }) => [
      ...Object.values(attributes ?? {}),
      ...(typeof value === 'number' ? [value] : [value.count, value.sum, bucketOf(value)]),
    ]);

const bucketOf = (value: ExponentialHistogram | ExplicitHistogram) =>
  value.kind === 'exponential' && value.counts.length === 1 && value.counts[0] === value.count
    ? value.offset
    : value;

withProbe('the I/O of all cgroups of a life counts together, by device and direction', t => {
  const kernel = fakeKernel();
  const source = start(t, kernel.object);
  t.is(kernel.attached[0], 'block_rq_complete');
  t.is(kernel.attached.length, 5);
  const vm = life(7, 8);
  kernel.set(7, vda, 'read', 3);
  kernel.set(8, vda, 'read', 1);
  kernel.set(8, vda, 'flush', 2);
  source.read([vm]);
  const samples = source.samples(vm);
  t.deepEqual(told(samples, 'container.disk.io'), [['vda', 'read', 4 * 4096]]);
  t.deepEqual(told(samples, 'sculptor.disk.operations'), [
    ['vda', 'read', 4],
    ['vda', 'flush', 2],
  ]);
  t.deepEqual(told(samples, 'sculptor.disk.latency'), [
    ['queue', 'vda', 'read', 4, 4e-6, -80],
    ['device', 'vda', 'read', 4, 4e-3, 39],
    ['queue', 'vda', 'flush', 2, 2e-6, -80],
    ['device', 'vda', 'flush', 2, 2e-3, 39],
  ]);
  t.true(samples.every(sample => sample.start === 5));
  t.deepEqual(source.samples(life(9)), []);
});

withProbe('what a cgroup did up to its end is kept, and its keys are free', t => {
  const kernel = fakeKernel();
  const source = start(t, kernel.object);
  const one = life(7);
  kernel.set(7, vda, 'write', 3);
  source.read([one]);
  kernel.set(7, vda, 'write', 5);
  kernel.set(7, vda, 'read', 1);
  source.forget(new Map([[7, one]]));
  t.is(kernel.counts.size, 0);
  source.read([]);
  t.deepEqual(told(source.samples(one), 'sculptor.disk.operations'), [
    ['vda', 'write', 5],
    ['vda', 'read', 1],
  ]);
  t.deepEqual(told(source.samples(one), 'container.disk.io'), [
    ['vda', 'write', 5 * 4096],
    ['vda', 'read', 4096],
  ]);
  t.is(source.lost()['unnamed'], 0);
  const next = life(7);
  kernel.set(7, vda, 'write', 2);
  source.read([next]);
  t.deepEqual(told(source.samples(next), 'sculptor.disk.operations'), [['vda', 'write', 2]]);
});

withProbe('I/O of a cgroup that is no instance is counted as unnamed, and its key dropped', t => {
  const kernel = fakeKernel();
  const source = start(t, kernel.object);
  kernel.set(99, vda, 'write', 4);
  const late = life(98);
  kernel.set(98, vda, 'write', 1);
  source.read([]);
  source.read([]);
  t.is(source.lost()['unnamed'], 0);
  // One that gets its name late has lost nothing.
  source.read([late]);
  t.is(source.lost()['unnamed'], 4);
  t.is(kernel.counts.size, 1);
  t.deepEqual(told(source.samples(late), 'sculptor.disk.operations'), [['vda', 'write', 1]]);
  kernel.set(97, vda, 'write', 2);
  source.forget(new Map([[97, null]]));
  t.is(source.lost()['unnamed'], 6);
});

withProbe('the four busiest devices have series of their own, and no series ever falls', t => {
  const kernel = fakeKernel();
  const source = start(t, kernel.object);
  const one = life(7);
  const operations = () =>
    Object.fromEntries(
      told(source.samples(one), 'sculptor.disk.operations').map(([name, , count]) => [name, count]),
    );
  for (const [minor, count] of [60, 50, 40, 30, 20].entries())
    kernel.set(7, device(8, minor), 'read', count);
  source.read([one]);
  t.deepEqual(operations(), { '8:0': 60, '8:1': 50, '8:2': 40, '8:3': 30, other: 20 });
  // The fifth is busier now than the fourth.
  kernel.set(7, device(8, 4), 'read', 120);
  source.read([one]);
  t.deepEqual(operations(), { '8:0': 60, '8:1': 50, '8:2': 40, '8:4': 100, other: 20 });
  kernel.set(7, device(8, 3), 'read', 530);
  source.read([one]);
  t.deepEqual(operations(), { '8:0': 60, '8:1': 50, '8:3': 530, '8:4': 100, other: 20 });
});

withProbe('a device that is gone keeps the name that it had', t => {
  const kernel = fakeKernel();
  const tree = makeTree(t, disks);
  const source = start(t, kernel.object, tree);
  const one = life(7);
  kernel.set(7, vda, 'read', 1);
  source.read([one]);
  tree.remove('sys/dev/block/254:0');
  kernel.set(7, vda, 'read', 2);
  source.read([one]);
  t.deepEqual(told(source.samples(one), 'sculptor.disk.operations'), [['vda', 'read', 2]]);
});

withProbe('irregular requests are told of the host, and each loss has its reason', t => {
  const kernel = fakeKernel();
  const { stats } = layout;
  for (const [i, at] of Object.values(stats).slice(0, -1).entries())
    kernel.stats.writeBigUInt64LE(BigInt(10 * (i + 1)), at);
  const source = start(t, kernel.object);
  source.read([]);
  t.deepEqual(told(source.host(), 'sculptor.disk.irregular'), [
    ['merged', 10],
    ['requeued', 20],
    ['in_parts', 30],
    ['failed', 40],
  ]);
  t.deepEqual(source.lost(), {
    requests_full: 50,
    unseen: 10,
    unfinished: 70,
    map_full: 80,
    memory: 90,
    recursion: 2,
    unnamed: 0,
  });
});

withProbe('losses never fall, also while one that was not followed has yet to end', t => {
  const kernel = fakeKernel();
  const { lostFull, lostUnseen } = layout.stats;
  const set = (full: number, unseen: number) => {
    kernel.stats.writeBigUInt64LE(BigInt(full), lostFull);
    kernel.stats.writeBigUInt64LE(BigInt(unseen), lostUnseen);
    source.read([]);
    return source.lost()['unseen'];
  };
  const source = start(t, kernel.object);
  t.is(set(0, 5), 5);
  t.is(set(3, 5), 5);
  t.is(set(3, 8), 5);
  t.is(set(3, 9), 6);
});
