import { existsSync } from 'node:fs';
import test from 'ava';
import { blockWords, decodeBlock, layout } from '../../../src/agent/probes/block.ts';
import { structLayout } from '../../support/btf-layout.ts';
import { wordsOf } from '../../support/map-sums.ts';

const object = new URL('../../../build/bpf/block.bpf.o', import.meta.url).pathname;
const withObject = existsSync(object) ? test : test.skip;
if (!existsSync(object)) console.error('# skipped: build/bpf/block.bpf.o is not built');

/** As in C, and without the size of the whole. */
function inC(ours: Readonly<Record<string, number>>): Record<string, number> {
  const { bytes: _, ...fields } = ours;
  return Object.fromEntries(
    Object.entries(fields).map(([name, at]) => [
      name.replace('bytesDone', 'bytes').replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`),
      at,
    ]),
  );
}

for (const what of ['key', 'totals', 'stats'] as const)
  withObject(`the decoder's layout of a ${what} is the one in the object's BTF`, t => {
    const { bytes, offsets } = structLayout(object, `block_${what}`);
    t.is<number, number>(layout[what].bytes, bytes);
    t.deepEqual(inC(layout[what]), offsets);
  });

test('the words of an entry are those of the structure, one after another', t => {
  const { operations, bytesDone, queueSumNs, deviceSumNs, queueSlots, deviceSlots, bytes } =
    layout.totals;
  t.deepEqual(
    [operations, bytesDone, queueSumNs, deviceSumNs, queueSlots, deviceSlots, bytes].map(
      at => at / 8,
    ),
    Object.values(blockWords),
  );
});

test('a key is a cgroup, a device and a direction', t => {
  const keys = Buffer.alloc(2 * layout.key.bytes);
  const values = Buffer.alloc(2 * layout.totals.bytes);
  for (const [i, { id, device, direction }] of [
    { id: 42n, device: (254 << 20) + 16, direction: 1 },
    { id: 1n, device: 0xfff00001, direction: 3 },
  ].entries()) {
    keys.writeBigUInt64LE(id, i * layout.key.bytes + layout.key.cgroupId);
    keys.writeUInt32LE(device, i * layout.key.bytes + layout.key.device);
    keys.writeUInt32LE(direction, i * layout.key.bytes + layout.key.direction);
    values.writeBigUInt64LE(
      2n ** 40n + BigInt(i),
      i * layout.totals.bytes + layout.totals.bytesDone,
    );
    values.writeBigUInt64LE(7n, i * layout.totals.bytes + layout.totals.deviceSlots + 8 * 60);
  }
  const width = layout.totals.bytes / 8;
  const [first, second] = decodeBlock({
    count: 2,
    maxEntries: 4,
    width,
    keys,
    sums: wordsOf(values),
  });
  t.deepEqual(first?.key, { cgroupId: 42, device: (254 << 20) + 16, direction: 'write' });
  t.deepEqual(second?.key, { cgroupId: 1, device: 0xfff00001, direction: 'discard' });
  t.is(first?.words[blockWords.bytes], 2 ** 40);
  t.is(second?.words[blockWords.bytes], 2 ** 40 + 1);
  t.is(second?.words[blockWords.deviceSlots + 60], 7);
  t.is(first?.words.length, blockWords.end);
});
