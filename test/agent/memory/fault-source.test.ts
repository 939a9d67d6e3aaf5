import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { faultSource } from '../../../src/agent/memory/fault-source.ts';
import { layout } from '../../../src/agent/probes/faults.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import type { ExponentialHistogram } from '../../../src/contract/telemetry.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
import { makeTree, type Tree } from '../../linux/tree.ts';
import { keyOf, sumsOf, wordsOf } from '../../support/map-sums.ts';

const built = new URL('../../../build/bpf/faults.bpf.o', import.meta.url);
const hasProbe = existsSync(built) && existsSync('/sys/kernel/btf/vmlinux');
const withProbe = hasProbe ? test : test.skip;
if (!hasProbe) console.error('# skipped: no build/bpf/faults.bpf.o, or no BTF of the kernel');

/** Maps of one CPU, by key; faults of 1 µs each, in slot 41. */
function fakeObject(counts: Map<bigint, number>, shared = new Map<bigint, number>()) {
  const countsOf = (map: string) => (map === 'faults' ? counts : shared);
  const attached: string[] = [];
  const cpus: number[][] = [];
  let isOpen = true;
  const valueWith = (count: number): Buffer => {
    const value = Buffer.alloc(layout.totals.bytes);
    value.writeBigUInt64LE(BigInt(count), layout.totals.count);
    value.writeBigUInt64LE(BigInt(count) * 1000n, layout.totals.sumNs);
    value.writeBigUInt64LE(BigInt(count), layout.totals.slots + 8 * 41);
    return value;
  };
  const object: Partial<BpfObject> = {
    attach: program => void attached.push(program),
    attachSoftwareEvent: (program, _event, online) => {
      attached.push(program);
      cpus.push([...online]);
    },
    readSums: map =>
      sumsOf([...countsOf(map)].map(([key, count]) => [keyOf(key), valueWith(count)])),
    lookupSums: (map, key) => {
      if (map === 'stats') return new Float64Array(layout.stats.bytes / 8);
      const count = countsOf(map).get(key.readBigUInt64LE());
      return count === undefined ? null : wordsOf(valueWith(count));
    },
    deleteKeys: (map, keys) => {
      for (let at = 0; at < keys.length; at += 8) countsOf(map).delete(keys.readBigUInt64LE(at));
      return 0;
    },
    programStats: () => ({}),
    close: () => {
      isOpen = false;
    },
  };
  return { object, attached, cpus, isOpen: () => isOpen };
}

function start(
  t: ExecutionContext,
  tree: Tree,
  object: Partial<BpfObject>,
  {
    version = 2,
    loadObject = () => object as BpfObject,
  }: { version?: 1 | 2 } & Partial<Native> = {},
) {
  const source = faultSource.start({
    config: { histograms: 'explicit', maxInstances: 16 },
    native: { loadObject } as unknown as Native,
    roots: tree,
    layout: { version, cpu: tree.cgroup, cpuset: null },
  } as unknown as SourceContext);
  t.teardown(source.stop);
  return source;
}

const life = (...ids: number[]) =>
  ({ start: 5, members: new Map(ids.map(id => [id, `/${id}`])) }) as unknown as LivingInstance;

const online = (list: string) => ({ 'sys/devices/system/cpu/online': list });

withProbe(
  'the faults of all cgroups of a life count together, by type, and stay when one of them ends',
  t => {
    const counts = new Map([
      [14n, 3],
      [15n, 2],
      [16n, 10],
    ]);
    const source = start(t, makeTree(t, online('0-1')), fakeObject(counts).object);
    const vm = life(7, 8);
    const told = () =>
      source.samples(vm).map(({ attributes, value }) => {
        const { count, sum, scale, offset, counts } = value as ExponentialHistogram;
        // 2 to the power of a fourth of that: 0.95 µs, where the bucket begins.
        t.deepEqual([scale, offset, counts], [2, 41 - 120, [count]]);
        return [...Object.values(attributes ?? {}), count, sum];
      });
    source.read([vm]);
    t.deepEqual(told(), [
      ['minor', 13, 13e-6],
      ['major', 2, 2e-6],
    ]);
    counts.set(14n, 4);
    source.forget(new Map([[7, vm]]));
    t.deepEqual([...counts.keys()], [16n]);
    source.read([vm]);
    t.deepEqual(told(), [
      ['minor', 14, 14e-6],
      ['major', 2, 2e-6],
    ]);
  },
);

withProbe('what is kept of all CPUs together is added, and told at the end too', t => {
  const [counts, shared] = [new Map([[14n, 3]]), new Map([[14n, 100]])];
  const source = start(t, makeTree(t, online('0-1')), fakeObject(counts, shared).object);
  const one = life(7);
  const minor = () => (source.samples(one)[0]?.value as ExponentialHistogram | undefined)?.count;
  source.read([one]);
  t.is(minor(), 103);
  shared.set(14n, 110);
  source.forget(new Map([[7, one]]));
  t.is(minor(), 113);
  t.is(counts.size + shared.size, 0);
});

withProbe('what a cgroup that is no instance left behind is dropped, and counted as unnamed', t => {
  const counts = new Map([
    [14n, 3],
    [196n, 1],
    [198n, 2],
    [199n, 5],
  ]);
  const shared = new Map([[198n, 10]]);
  const source = start(t, makeTree(t, online('0-1')), fakeObject(counts, shared).object);
  const lives = [life(7), life(98)];
  source.read(lives.slice(0, 1));
  source.read(lives.slice(0, 1));
  t.is(counts.size, 4);
  source.read(lives);
  t.deepEqual([...counts.keys()], [14n, 196n]);
  t.is(shared.size, 0);
  t.is(source.lost()['unnamed'], 17);
  source.forget(new Map([[98, null]]));
  t.is(source.lost()['unnamed'], 18);
});

withProbe('beginnings are attached before ends, and the CPUs that are online are followed', t => {
  const { object, attached, cpus } = fakeObject(new Map());
  const tree = makeTree(t, online('0-2'));
  const source = start(t, tree, object);
  t.deepEqual(attached, ['page_fault_user', 'page_fault_kernel', 'minor_fault', 'major_fault']);
  tree.write(online('0,2'));
  source.read([]);
  t.deepEqual(cpus.at(0), [0, 1, 2]);
  t.deepEqual(cpus.at(-1), [0, 2]);
});

withProbe('what was not read of a cgroup while nobody knew it is told when somebody does', t => {
  const counts = new Map([
    [14n, 3],
    [16n, 5],
  ]);
  const source = start(t, makeTree(t, online('0-1')), fakeObject(counts).object);
  const [early, late] = [life(7), life(8)];
  const minor = (one: LivingInstance) =>
    (source.samples(one)[0]?.value as ExponentialHistogram | undefined)?.count;
  source.read([early]);
  source.read([early, late]);
  t.deepEqual([minor(early), minor(late)], [3, 5]);
  const before = source.samples(early);
  source.read([early, late]);
  t.is(source.samples(early), before, 'nothing came: nothing is made anew');
  counts.set(14n, 4);
  source.read([early, late]);
  t.deepEqual([minor(early), minor(late)], [4, 5]);
});

withProbe(
  'cgroups are known as their version has them, and nothing stays once it is stopped',
  t => {
    for (const version of [1, 2] as const) {
      const { object, isOpen } = fakeObject(new Map());
      const loaded: unknown[] = [];
      const loadObject: Native['loadObject'] = (_, options) => {
        loaded.push(options?.constants);
        return object as BpfObject;
      };
      const source = start(t, makeTree(t, online('0-1')), object, { version, loadObject });
      t.deepEqual(loaded, [{ cgroup_v1: version === 1 }]);
      t.true(isOpen());
      source.stop();
      t.false(isOpen());
    }
  },
);
