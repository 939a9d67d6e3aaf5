import { existsSync } from 'node:fs';
import test from 'ava';
import { decodeFaults, layout } from '../../../src/agent/probes/faults.ts';
import { structLayout } from '../../support/btf-layout.ts';

const object = new URL('../../../build/bpf/faults.bpf.o', import.meta.url).pathname;
const withObject = existsSync(object) ? test : test.skip;
if (!existsSync(object)) console.error('# skipped: build/bpf/faults.bpf.o is not built');

withObject("the decoder's layout of totals is the one in the object's BTF", t => {
  const { bytes, offsets } = structLayout(object, 'fault_totals');
  const { bytes: ourBytes, count, sumNs, slots }: Record<string, number> = layout.totals;
  t.is(ourBytes, bytes);
  t.deepEqual({ count, sum_ns: sumNs, slots }, offsets as unknown);
});

withObject("the decoder's layout of stats is the one in the object's BTF", t => {
  const { bytes, offsets } = structLayout(object, 'fault_stats');
  const {
    bytes: ourBytes,
    lostTaskStorage,
    lostInstanceFull,
    lostInstanceMemory,
  }: Record<string, number> = layout.stats;
  t.is(ourBytes, bytes);
  t.deepEqual(
    {
      lost_task_storage: lostTaskStorage,
      lost_instance_full: lostInstanceFull,
      lost_instance_memory: lostInstanceMemory,
    },
    offsets as unknown,
  );
});

/** One value for each of two CPUs: `counts[cpu]` faults of 100 ns, all in slot 20 + cpu. */
function perCpu(counts: readonly number[]): Buffer {
  const { bytes, count, sumNs, slots } = layout.totals;
  const values = Buffer.alloc(counts.length * bytes);
  for (const [cpu, faults] of counts.entries()) {
    const at = cpu * bytes;
    values.writeBigUInt64LE(BigInt(faults), at + count);
    values.writeBigUInt64LE(BigInt(faults) * 100n, at + sumNs);
    values.writeBigUInt64LE(BigInt(faults), at + slots + 8 * (20 + cpu));
  }
  return values;
}

test('a key is a cgroup and a kind of fault, and the values of all CPUs are added up', t => {
  const entries = [
    { key: 84n, values: perCpu([3, 4]) },
    { key: 85n, values: perCpu([0, 1]) },
    { key: 14n, values: perCpu([5, 0]) },
  ];
  const keys = Buffer.alloc(8 * entries.length);
  for (const [i, { key }] of entries.entries()) keys.writeBigUInt64LE(key, i * 8);
  const totals = decodeFaults({
    count: entries.length,
    cpus: 2,
    valueSize: layout.totals.bytes,
    keys,
    values: Buffer.concat(entries.map(({ values }) => values)),
  });
  t.deepEqual([...totals.keys()], [42, 7]);
  const { minor, major } = totals.get(42) ?? {};
  t.is(minor?.latencyCount, 7);
  t.is(minor?.latencySumNs, 700);
  t.deepEqual([minor?.slots[20], minor?.slots[21]], [3, 4]);
  t.is(major?.latencyCount, 1);
  t.is(totals.get(7)?.minor.latencyCount, 5);
  t.is(totals.get(7)?.major.latencyCount, 0);
});
