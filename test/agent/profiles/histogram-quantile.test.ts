import test from 'ava';
import { quantileOf } from '../../../src/agent/profiles/histogram-quantile.ts';
import type { ExplicitHistogram, ExponentialHistogram } from '../../../src/contract/telemetry.ts';

const explicit = (bounds: number[], counts: number[]): ExplicitHistogram => ({
  ...{ kind: 'explicit', bounds, counts },
  ...{ count: counts.reduce((sum, count) => sum + count, 0), sum: 1 },
});
const exponential = (zeroCount: number, counts: number[]): ExponentialHistogram => ({
  ...{ kind: 'exponential', scale: 1, offset: 3, zeroCount, counts },
  ...{ count: 0, sum: 1 },
});

test('a quantile is the upper bound of the bucket that has its rank', t => {
  t.is(quantileOf(explicit([1, 2], [0, 3, 0]), 0), 2, 'the least of what was counted');
  const histogram = explicit([1, 2, 4], [1, 2, 1, 0]);
  t.deepEqual(
    [0, 0.25, 0.26, 0.75, 0.76, 1].map(q => quantileOf(histogram, q)),
    [1, 1, 2, 2, 4, 4],
  );
  // 2^((offset + 1 + index) / 2^scale).
  t.deepEqual(
    [0.4, 0.5, 0.8, 1].map(q => quantileOf(exponential(2, [2, 1]), q)),
    [0, 4, 4, 2 ** 2.5],
  );
});

test('what is above all bounds is told as the highest of them, and without any as nothing', t => {
  t.is(quantileOf(explicit([1, 2, 4], [0, 0, 0, 5]), 0.5), 4);
  t.is(quantileOf(explicit([], [5]), 0.5), null);
});

test('where nothing was counted there is no quantile', t => {
  t.is(quantileOf(explicit([1], [0, 0]), 0.5), null);
  t.is(quantileOf(exponential(0, []), 0.5), null);
});
