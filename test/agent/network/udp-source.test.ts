import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { udpSource } from '../../../src/agent/network/udp-source.ts';
import { layout } from '../../../src/agent/probes/udp.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
import { keyOf, sumsOf, wordsOf } from '../../support/map-sums.ts';

const built = new URL('../../../build/bpf/udp.bpf.o', import.meta.url);
const hasProbe = existsSync(built) && existsSync('/sys/kernel/btf/vmlinux');
const withProbe = hasProbe ? test : test.skip;
if (!hasProbe) console.error('# skipped: no build/bpf/udp.bpf.o, or no BTF of the kernel');

/** Cgroups by id: so many bytes in so many datagrams sent. */
function fakeObject(sent: Map<number, { bytes: number; packets: number }>) {
  const valueFor = (id: number): Buffer | null => {
    const found = sent.get(id);
    if (!found) return null;
    const values = Buffer.alloc(layout.totals.bytes);
    values.writeBigUInt64LE(BigInt(found.bytes), layout.totals.sentBytes);
    values.writeBigUInt64LE(BigInt(found.packets), layout.totals.sentPackets);
    return values;
  };
  const attached: string[] = [];
  const object: Partial<BpfObject> = {
    attach: program => void attached.push(program),
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
    programStats: () => ({}),
    close: () => void attached.splice(0),
  };
  return { object, attached };
}

function start(t: ExecutionContext, object: Partial<BpfObject>) {
  const source = udpSource.start({
    config: { maxInstances: 16 },
    native: { loadObject: () => object } as unknown as Native,
    layout: { version: 2, cpu: '', cpuset: null },
  } as unknown as SourceContext);
  t.teardown(source.stop);
  return source;
}

const life = (...ids: number[]) =>
  ({ start: 5, members: new Map(ids.map(id => [id, `/${id}`])) }) as unknown as LivingInstance;

withProbe('the datagrams of all cgroups of a life count together, and stay when one ends', t => {
  const sent = new Map([
    [7, { bytes: 100, packets: 1 }],
    [8, { bytes: 1000, packets: 2 }],
    [9, { bytes: 5, packets: 5 }],
  ]);
  const { object, attached } = fakeObject(sent);
  const source = start(t, object);
  t.deepEqual(attached, ['sock_send_length', 'sock_recv_length']);
  const [vm, silent] = [life(7, 8), life(10)];
  const told = () =>
    Object.fromEntries(
      source
        .samples(vm)
        .map(({ metric, attributes, value }) => [
          [metric, ...Object.values(attributes ?? {})].join(' '),
          value,
        ]),
    );
  source.read([vm, silent]);
  t.deepEqual(told(), {
    'sculptor.network.io receive udp': 0,
    'sculptor.network.io transmit udp': 1100,
    'sculptor.network.packets receive udp': 0,
    'sculptor.network.packets transmit udp': 3,
  });
  t.is(source.samples(vm)[0]?.start, 5);
  t.deepEqual(source.samples(silent), []);
  sent.set(7, { bytes: 150, packets: 2 });
  source.forget(new Map([[7, vm]]));
  t.deepEqual([...sent.keys()], [8, 9]);
  source.read([vm]);
  t.is(told()['sculptor.network.io transmit udp'], 1150);
  t.is(told()['sculptor.network.packets transmit udp'], 4);
  t.deepEqual(source.lost(), { map_full: 0, memory: 0, recursion: 0, unnamed: 0 });
});

withProbe('what a cgroup that is no instance left behind is dropped, and counted as unnamed', t => {
  const sent = new Map([
    [7, { bytes: 100, packets: 1 }],
    [98, { bytes: 10, packets: 2 }],
    [99, { bytes: 10, packets: 4 }],
  ]);
  const source = start(t, fakeObject(sent).object);
  source.read([life(7)]);
  source.read([life(7)]);
  t.deepEqual([...sent.keys()], [7, 98, 99]);
  source.read([life(7), life(98)]);
  t.deepEqual([...sent.keys()], [7, 98]);
  t.is(source.lost()['unnamed'], 4);
  source.forget(new Map([[98, null]]));
  t.is(source.lost()['unnamed'], 6);
});

withProbe('an instance that sent nothing but empty datagrams is told of', t => {
  const source = start(t, fakeObject(new Map([[7, { bytes: 0, packets: 2 }]])).object);
  const one = life(7);
  source.read([one]);
  t.is(source.samples(one).length, 4);
});
