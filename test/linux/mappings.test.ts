import test from 'ava';
import {
  cutRanges,
  joinRanges,
  lengthOf,
  newBytes,
  openMappings,
  type Range,
} from '../../src/linux/mappings.ts';
import type { Native } from '../../src/linux/native.ts';

const [kib, mib, gib] = [1 << 10, 1 << 20, 1 << 30];
const of = (...bounds: readonly (readonly [start: number, end: number])[]): Range[] =>
  bounds.map(([start, end]) => ({ start, end }));

test('the smallest gaps are filled first, and no more of them than are too many', t => {
  const ranges = of([0, 10], [10, 20], [25, 30], [32, 40], [90, 100]);
  t.deepEqual(joinRanges(ranges, 4), of([0, 20], [25, 30], [32, 40], [90, 100]));
  t.deepEqual(joinRanges(ranges, 3), of([0, 20], [25, 40], [90, 100]));
  t.deepEqual(joinRanges(ranges, 2), of([0, 40], [90, 100]));
  t.deepEqual(joinRanges(ranges, 1), of([0, 100]));
  t.deepEqual(joinRanges(ranges, 500), of([0, 20], [25, 30], [32, 40], [90, 100]));
  t.deepEqual(joinRanges([], 500), []);
});

test('gaps that are all alike do not leave too many ranges', t => {
  const even = Array.from({ length: 1000 }, (_, i) => ({ start: 10 * i, end: 10 * i + 5 }));
  t.true(joinRanges(even, 500).length <= 500);
});

test('what is new is what was not there, however it is mapped now', t => {
  const before = of([10, 20], [20, 30], [50, 60], [70, 80]);
  t.is(newBytes(before, before), 0);
  t.is(newBytes(before, of([10, 30], [50, 80])), 10);
  t.is(newBytes(before, of([0, 100])), 60);
  t.is(newBytes(before, of([15, 25], [55, 65], [90, 95])), 10);
  t.is(newBytes(before, of([12, 14], [16, 18], [30, 50])), 20);
  t.is(newBytes(before, []), 0);
  t.is(newBytes([], before), 40);
});

const cut = (ranges: readonly Range[], parts: number) => cutRanges(ranges, parts, 4 * gib).pieces;

test('parts are of equal size, and go on in the next range', t => {
  const ranges = of([mib, 2 * mib], [8 * mib, 8.5 * mib], [9 * mib, 9.5 * mib]);
  t.deepEqual(cut(ranges, 1), ranges);
  t.deepEqual(cut(ranges, 2), ranges);
  t.deepEqual(
    cut(of([0, mib], [4 * mib, 6 * mib]), 2),
    of([0, mib], [4 * mib, 4.5 * mib], [4.5 * mib, 6 * mib]),
  );
  t.deepEqual(cut([], 500), []);
});

test('what is cut is as long as it was, whatever it is cut into', t => {
  const ranges = Array.from({ length: 300 }, (_, i) => {
    const start = i * mib;
    return { start, end: start + (((i * 7919) % 200) + 1) * 4 * kib };
  });
  for (const parts of [1, 7, 500, 5000]) {
    const pieces = cut(ranges, parts);
    t.is(lengthOf(pieces), lengthOf(ranges));
    t.true(pieces.every(({ start, end }) => end > start));
    t.true(pieces.length <= parts + ranges.length);
  }
});

test('no part is smaller than a page, or larger than the most', t => {
  const page = (process.arch === 'x64' ? 4 : 64) * kib;
  t.is(cut(of([0, mib]), 500).length, mib / page);
  const large = cutRanges(of([0, 5000 * gib]), 500, 4 * gib - page);
  t.true(large.pieces.every(({ start, end }) => end - start <= 4 * gib - page));
  t.is(large.parts, large.pieces.length);
  t.is(lengthOf(large.pieces), 5000 * gib);
});

test('one process is walked at a time; who waits too long for one that holds its lock is told which', async t => {
  // As the agent's own timers do.
  const awake = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(awake));
  const walks = new Map<number, (records: Buffer) => void>();
  const iterateThread = (_: string, tgid: number) =>
    new Promise<Buffer>(resolve => walks.set(tgid, resolve));
  const loadObject = () => ({ iterateThread, close: () => undefined });
  const mappings = openMappings({ loadObject } as unknown as Native, 200);
  const records = Buffer.alloc(16);
  records.writeBigUInt64LE(4096n, 0);
  records.writeBigUInt64LE(8192n, 8);

  const [first, second, third] = [7, 8, 9].map(mappings.of);
  t.deepEqual([...walks.keys()], [7]);
  walks.get(7)?.(records);
  t.deepEqual(await first, of([4096, 8192]));
  await new Promise(setImmediate);
  t.deepEqual([...walks.keys()], [7, 8]);
  const thirdFails = t.throwsAsync(third ?? Promise.resolve(), {
    code: 'KERNEL_IO',
    message: /process 8 has held its mmap lock for 0.2 s/,
  });
  await thirdFails;
  await t.throwsAsync(mappings.of(10), { code: 'KERNEL_IO' });
  walks.get(8)?.(records);
  t.deepEqual(await second, of([4096, 8192]));
  const next = mappings.of(11);
  walks.get(11)?.(Buffer.alloc(0));
  t.deepEqual(await next, []);
});
