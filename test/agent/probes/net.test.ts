import { existsSync } from 'node:fs';
import test from 'ava';
import { decodeNet, layout } from '../../../src/agent/probes/net.ts';
import { entriesOf } from '../../../src/agent/probes/sums.ts';
import { structLayout } from '../../support/btf-layout.ts';
import { keyOf, sumsOf } from '../../support/map-sums.ts';

const object = new URL('../../../build/bpf/net.bpf.o', import.meta.url).pathname;
const withObject = existsSync(object) ? test : test.skip;
if (!existsSync(object)) console.error('# skipped: build/bpf/net.bpf.o is not built');

/** `receivedBytes` as the kernel's code has it: `received_bytes`. */
const inC = (fields: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(fields).map(([name, at]) => [
      name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`),
      at,
    ]),
  );

for (const [part, struct] of [
  ['totals', 'net_totals'],
  ['stats', 'net_stats'],
] as const)
  withObject(`the decoder's layout of ${part} is the one in the object's BTF`, t => {
    const { bytes, ...offsets } = layout[part];
    t.deepEqual({ bytes, offsets: inC(offsets) }, structLayout(object, struct));
  });

test('an entry is one cgroup; of two answers for it the later one holds', t => {
  const value = (sentBytes: number, slot: number): Buffer => {
    const bytes = Buffer.alloc(layout.totals.bytes);
    bytes.writeBigUInt64LE(BigInt(sentBytes), layout.totals.sentBytes);
    bytes.writeBigUInt64LE(7n, layout.totals.rttCount);
    bytes.writeBigUInt64LE(7n, layout.totals.rttSlots + 8 * slot);
    return bytes;
  };
  const totals = decodeNet(
    entriesOf(
      sumsOf([
        [keyOf(42), value(1, 0)],
        [keyOf(43), value(2 ** 40, 1)],
        [keyOf(42), value(3, 159)],
      ]),
    ),
  );
  t.deepEqual([...totals.keys()], [42, 43]);
  t.is(totals.get(43)?.sentBytes, 2 ** 40);
  t.is(totals.get(42)?.sentBytes, 3);
  t.is(totals.get(42)?.rtt.slots[159], 7);
  t.is(totals.get(42)?.rtt.latencyCount, 7);
});
