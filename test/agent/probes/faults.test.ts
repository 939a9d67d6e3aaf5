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

/** So many faults of 100 ns each, by slot. */
function wordsWith(slots: Readonly<Record<number, number>>): Float64Array {
  const words = new Float64Array(layout.totals.bytes / 8);
  for (const [slot, faults] of Object.entries(slots)) {
    words[0] = (words[0] ?? 0) + faults;
    words[layout.totals.slots / 8 + Number(slot)] = faults;
  }
  words[layout.totals.sumNs / 8] = 100 * (words[0] ?? 0);
  return words;
}

test('a key is a cgroup and a kind of fault', t => {
  const totals = decodeFaults(
    new Map([
      [84, wordsWith({ 20: 3, 21: 4 })],
      [85, wordsWith({ 21: 1 })],
      [14, wordsWith({ 20: 5 })],
    ]),
  );
  t.deepEqual([...totals.keys()], [42, 7]);
  const { minor, major } = totals.get(42) ?? {};
  t.is(minor?.latencyCount, 7);
  t.is(minor?.latencySumNs, 700);
  t.deepEqual([minor?.slots[20], minor?.slots[21]], [3, 4]);
  t.is(major?.latencyCount, 1);
  t.is(totals.get(7)?.minor.latencyCount, 5);
  t.is(totals.get(7)?.major.latencyCount, 0);
});
