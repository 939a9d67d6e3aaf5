import { existsSync, statSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';

import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { netSource } from '../../../src/agent/network/net-source.ts';
import { layout } from '../../../src/agent/probes/net.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import type { ExponentialHistogram } from '../../../src/contract/telemetry.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
import { makeTree } from '../../linux/tree.ts';
import { keyOf, sumsOf, wordsOf } from '../../support/map-sums.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const built = new URL('../../../build/bpf/net.bpf.o', import.meta.url);
const hasProbe = existsSync(built) && existsSync('/sys/kernel/btf/vmlinux');
const withProbe = hasProbe ? test : test.skip;
if (!hasProbe) console.error('# skipped: no build/bpf/net.bpf.o, or no BTF of the kernel');

/** Cgroups by id: so many bytes and packets sent, with as many round-trip times of 1 ms in slot 80. */
/** `walksSockets`: its kernel allows the iterator over a map. */
function fakeObject(sent: Map<number, { bytes: number; packets: number }>, walksSockets = true) {
  const ran: string[] = [];
  const valueFor = (id: number): Buffer | null => {
    const found = sent.get(id);
    if (!found) return null;
    const value = Buffer.alloc(layout.totals.bytes);
    const put = (n: number, at: number) => value.writeBigUInt64LE(BigInt(n), at);
    put(found.bytes, layout.totals.sentBytes);
    put(found.packets, layout.totals.sentPackets);
    put(found.packets, layout.totals.rttCount);
    put(found.packets * 1e6, layout.totals.rttSumNs);
    put(found.packets, layout.totals.rttSlots + 8 * 80);
    return value;
  };
  const object: Partial<BpfObject> = {
    attach: program => void ran.push(program),
    iterate: program => {
      ran.push(program);
      return Buffer.alloc(0);
    },
    readSums: () =>
      sumsOf([...sent.keys()].map(id => [keyOf(id), valueFor(id) ?? Buffer.alloc(0)])),
    lookupSums: (map, key) => {
      if (map === 'stats') return new Float64Array(layout.stats.bytes / 8);
      const value = valueFor(Number(key.readBigUInt64LE()));
      return value && wordsOf(value);
    },
    deleteKeys: (_map, keys) => {
      for (let at = 0; at < keys.length; at += 8) sent.delete(Number(keys.readBigUInt64LE(at)));
      return 0;
    },
    programStats: () => (walksSockets ? { charge_sockets: { runs: 0, runNs: 0, missed: 0 } } : {}),
    close: () => undefined,
  };
  return { object, ran };
}

function start(
  t: ExecutionContext,
  object: Partial<BpfObject>,
  loadObject: Native['loadObject'] = () => object as BpfObject,
  cpu = '/absent',
) {
  const clock = steppedClock();
  const source = netSource.start({
    config: { maxInstances: 16, placementIntervalSeconds: 60 },
    native: { loadObject } as unknown as Native,
    layout: { version: 2, cpu, cpuset: null },
    clock,
  } as unknown as SourceContext);
  t.teardown(source.stop);
  return { source, clock };
}

const life = (...ids: number[]) =>
  ({ start: 5, members: new Map(ids.map(id => [id, `/${id}`])) }) as unknown as LivingInstance;

withProbe('the traffic of all cgroups of a life counts together, and stays when one ends', t => {
  const sent = new Map([
    [7, { bytes: 100, packets: 1 }],
    [8, { bytes: 1000, packets: 2 }],
    [9, { bytes: 5, packets: 5 }],
  ]);
  const { source } = start(t, fakeObject(sent).object);
  const [vm, silent] = [life(7, 8), life(10)];
  const value = (metric: string, direction?: string) =>
    source
      .samples(vm)
      .find(
        one =>
          one.metric === metric &&
          (!direction || one.attributes?.['network.io.direction'] === direction),
      )?.value;
  source.read([vm, silent]);
  t.is(value('sculptor.network.io', 'transmit'), 1100);
  t.is(value('sculptor.network.io', 'receive'), 0);
  t.is(value('sculptor.network.packets', 'transmit'), 3);
  t.deepEqual(source.samples(silent), []);
  sent.set(7, { bytes: 150, packets: 2 });
  source.forget(new Map([[7, vm]]));
  t.deepEqual([...sent.keys()], [8, 9]);
  source.read([vm]);
  t.is(value('sculptor.network.io', 'transmit'), 1150);
  const rtt = value('sculptor.network.rtt') as ExponentialHistogram;
  t.like(rtt, { count: 4, sum: 0.004, scale: 2, offset: -40, counts: [4] });
});

withProbe(
  'what a cgroup that is no instance left behind is dropped, and counted as unnamed; not what one that is there holds',
  t => {
    const tree = makeTree(t, { 'cgroup/idle/': '' });
    const idle = statSync(`${tree.cgroup}/idle`).ino;
    const sent = new Map([7, 3, 4, idle].map(id => [id, { bytes: 10, packets: id }]));
    const { source } = start(t, fakeObject(sent).object, undefined, tree.cgroup);
    source.read([life(7)]);
    source.read([life(7)]);
    t.is(sent.size, 4);
    source.read([life(7), life(4)]);
    t.deepEqual([...sent.keys()], [7, 4, idle]);
    t.is(source.lost()['unnamed'], 3);
    source.forget(new Map([[4, null]]));
    t.is(source.lost()['unnamed'], 7);
    tree.remove('cgroup/idle');
    for (let i = 0; i < 3; i += 1) source.read([life(7)]);
    t.deepEqual([...sent.keys()], [7]);
  },
);

withProbe(
  'the hook comes before what is there already, sockets are looked at each second, holders each minute',
  t => {
    const { object, ran } = fakeObject(new Map());
    const { clock } = start(t, object);
    t.deepEqual(ran.splice(0), ['inet_sock_set_state', 'baseline']);
    clock.step(59);
    t.deepEqual(ran.splice(0), Array(59).fill('charge_sockets'));
    clock.step(1);
    t.deepEqual(ran.splice(0), ['own_sockets', 'charge_sockets']);
  },
);

withProbe('a kernel that refuses iterators over maps has its sockets looked at by its files', t => {
  const { object, ran } = fakeObject(new Map(), false);
  const asked: Parameters<Native['loadObject']>[1][] = [];
  const loadObject: Native['loadObject'] = (_path, options) => {
    asked.push(options);
    if (!options.without?.includes('charge_sockets'))
      throw Object.assign(new Error('load: EPERM'), { code: 'EPERM' });
    return object as BpfObject;
  };
  const { clock } = start(t, object, loadObject);
  t.deepEqual(
    asked.map(({ without }) => without),
    [undefined, ['charge_sockets']],
  );
  ran.length = 0;
  clock.step(3);
  t.deepEqual(ran, Array(3).fill('own_sockets'));
});

withProbe('what the verifier rejects is said, though others could do its work', t => {
  const { object } = fakeObject(new Map());
  const loadObject: Native['loadObject'] = (_path, options) => {
    if (options.without) return object as BpfObject;
    throw Object.assign(new Error('load: EINVAL'), { code: 'EINVAL', log: 'PROG LOAD LOG' });
  };
  t.throws(() => start(t, object, loadObject), { message: /EINVAL/ });
});

withProbe('where a look takes long, looks are rarer, whatever is exported meanwhile', t => {
  const { object, ran } = fakeObject(new Map());
  const { source, clock } = start(t, object);
  const { iterate } = object;
  object.iterate = (...args) => {
    // Of a stepped clock's time, 7 ms.
    slow += 0.007;
    return iterate?.(...args) ?? Buffer.alloc(0);
  };
  let slow = 0;
  const { monotonicSeconds } = clock;
  Object.assign(clock, { monotonicSeconds: () => monotonicSeconds() + slow });
  ran.length = 0;
  for (let i = 0; i < 40; i += 1) {
    clock.step(1);
    source.read([]);
  }
  t.deepEqual(ran, Array(6).fill('charge_sockets'));
});

withProbe('a look that fails is told by the next reading, once', t => {
  const { object } = fakeObject(new Map());
  const { source, clock } = start(t, object);
  const { iterate } = object;
  object.iterate = () => {
    throw new Error('no more descriptors');
  };
  clock.step(2);
  object.iterate = iterate ?? (() => Buffer.alloc(0));
  t.throws(() => source.read([]), { message: 'no more descriptors' });
  t.notThrows(() => source.read([]));
});
