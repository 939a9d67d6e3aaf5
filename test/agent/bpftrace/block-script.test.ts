import test from 'ava';
import { decodeBlockWords, startBlockScript } from '../../../src/agent/bpftrace/block-script.ts';
import { blockWords } from '../../../src/agent/probes/block.ts';
import { lossesOf, stagedScript } from '../support/staged-script.ts';

/** Disk 7:3, and one whose number × 4 has more than 32 bits. */
const [loop3, large] = [7 * 2 ** 20 + 3, 4095 * 2 ** 20 + 1];

test('words of one cgroup, disk and direction are one entry; its operations are those of all slots', t => {
  const entries = decodeBlockWords(
    new Map([
      [`70,${loop3 * 4},1`, 12_288],
      [`70,${loop3 * 4},3`, 900],
      [`70,${loop3 * 4},${blockWords.queueSlots}`, 3],
      [`70,${loop3 * 4},${blockWords.deviceSlots + 30}`, 2],
      [`70,${loop3 * 4},${blockWords.deviceSlots + 159}`, 1],
      [`1,${large * 4 + 2},${blockWords.deviceSlots}`, 5],
    ]),
  );
  t.deepEqual(
    entries.map(({ key }) => key),
    [
      { cgroupId: 70, device: loop3, direction: 'read' },
      { cgroupId: 1, device: large, direction: 'flush' },
    ],
  );
  const [read, flush] = entries.map(({ words }) => words);
  t.is(read?.length, blockWords.end);
  t.deepEqual([...(read ?? []).slice(0, 5)], [3, 12_288, 0, 900, 3]);
  t.is(read?.[blockWords.end - 1], 1);
  t.is(flush?.[blockWords.operations], 5);
});

test('what is forgotten is answered once, and counts from 0 when there is more of it', t => {
  const { context, print } = stagedScript({ losses: lossesOf({ lost_events: 2 }) });
  const script = startBlockScript(context);
  const [write, discard] = [loop3 * 4 + 1, loop3 * 4 + 3];
  print('words', [
    [`70,${write},1`, 4096],
    [`70,${write},170`, 1],
    [`70,${discard},170`, 1],
  ]);
  print('merged', [[null, 7]]);
  print('unseen', [[null, 3]]);
  const key = { cgroupId: 70, device: loop3, direction: 'write' } as const;
  const [last, ...others] = script.forget([key, { ...key, cgroupId: 71 }]);
  t.deepEqual([last?.key, last?.words[blockWords.bytes]], [key, 4096]);
  t.deepEqual(others, []);
  t.deepEqual(
    script.read().map(entry => entry.key.direction),
    ['discard'],
  );
  print('words', [
    [`70,${write},1`, 5096],
    [`70,${write},170`, 2],
  ]);
  const again = script.read().find(entry => entry.key.direction === 'write');
  t.deepEqual([...(again?.words.subarray(0, 2) ?? [])], [1, 1000]);
  const { irregular, lost } = script.stats();
  t.deepEqual(irregular, { merged: 7, requeued: 0, in_parts: 0, failed: 0 });
  t.like(lost, { lost_events: 2, unseen: 3, requests_full: 0 });
  print('requests_full', [[null, 5]]);
  t.like(script.stats().lost, { unseen: 3, requests_full: 5 });
  print('unseen', [[null, 9]]);
  t.like(script.stats().lost, { unseen: 4, requests_full: 5 });
});
