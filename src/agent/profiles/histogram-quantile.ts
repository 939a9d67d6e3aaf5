import type { ExplicitHistogram, ExponentialHistogram } from '../../contract/telemetry.ts';

/**
 * Upper bound, in the metric's unit, of the bucket which has the value of rank ⌈q · count⌉; the highest bound where that
 * bucket has none. Null when nothing was counted.
 */
export function quantileOf(
  histogram: ExplicitHistogram | ExponentialHistogram,
  q: number,
): number | null {
  const counts =
    histogram.kind === 'explicit' ? histogram.counts : [histogram.zeroCount, ...histogram.counts];
  const counted = counts.reduce((sum, count) => sum + count, 0);
  if (counted <= 0) return null;
  const rank = Math.max(1, Math.ceil(q * counted));
  let seen = 0;
  const bucket = counts.findIndex(count => {
    seen += count;
    return seen >= rank;
  });
  return boundOf(histogram, bucket);
}

function boundOf(
  histogram: ExplicitHistogram | ExponentialHistogram,
  bucket: number,
): number | null {
  if (histogram.kind === 'explicit')
    return histogram.bounds[bucket] ?? histogram.bounds.at(-1) ?? null;
  return bucket === 0 ? 0 : 2 ** ((histogram.offset + bucket) / 2 ** histogram.scale);
}
