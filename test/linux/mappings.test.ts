import test from 'ava';
import { cutRanges, joinRanges, lengthOf, type Range } from '../../src/linux/mappings.ts';

const [kib, mib] = [1 << 10, 1 << 20];
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

test('parts are of equal size, and go on in the next range', t => {
  const ranges = of([mib, 2 * mib], [8 * mib, 8 * mib + 512 * kib], [9 * mib, 9 * mib + 512 * kib]);
  t.deepEqual(cutRanges(ranges, 1), ranges);
  t.deepEqual(cutRanges(ranges, 2), ranges);
  t.deepEqual(
    cutRanges(of([0, mib], [4 * mib, 6 * mib]), 2),
    of([0, mib], [4 * mib, 4.5 * mib], [4.5 * mib, 6 * mib]),
  );
  t.deepEqual(cutRanges([], 500), []);
});

test('what is cut is as long as it was, whatever it is cut into', t => {
  const ranges = Array.from({ length: 300 }, (_, i) => {
    const start = i * mib;
    return { start, end: start + (((i * 7919) % 200) + 1) * 4 * kib };
  });
  for (const parts of [1, 7, 500, 5000]) {
    const pieces = cutRanges(ranges, parts);
    t.is(lengthOf(pieces), lengthOf(ranges));
    t.true(pieces.every(({ start, end }) => end > start));
    t.true(pieces.length <= parts + ranges.length);
  }
});

test('no part is smaller than a page can be', t => {
  t.is(cutRanges(of([0, mib]), 500).length, 16);
});
