import type { AgentConfig } from '../contract/config.ts';
import type { ExplicitHistogram, ExponentialHistogram } from '../contract/telemetry.ts';

export type HistogramResolution = AgentConfig['histograms'];

/** Explicit buckets reach from 2^−20 s (0.95 µs) to 2^4 s; what is below or above is in the first or the last. */
const [firstOctave, lastOctave] = [-20, 4];

/** Bounds in seconds, by their number in an octave. A quarter of an octave is what the kernel counts (scale 2). */
const boundsBy = { explicit: boundsOf(1), 'explicit-fine': boundsOf(4) };

/** A source tells the same histogram again while nothing comes to it. */
const merged = new WeakMap<
  ExponentialHistogram,
  { readonly resolution: HistogramResolution; readonly histogram: ExplicitHistogram }
>();

/**
 * An exact histogram of scale 2 in the resolution that is exported: buckets are merged whole, nothing is recorded anew, so
 * count and sum stay and so does what is below any bound that two resolutions share. What is explicit already stays as it is.
 */
export function inResolution(
  exact: ExplicitHistogram | ExponentialHistogram,
  resolution: HistogramResolution,
): ExplicitHistogram | ExponentialHistogram {
  if (resolution === 'exponential' || exact.kind === 'explicit') return exact;
  const known = merged.get(exact);
  if (known?.resolution === resolution) return known.histogram;
  const histogram = merge(exact, resolution);
  merged.set(exact, { resolution, histogram });
  return histogram;
}

function merge(
  exact: ExponentialHistogram,
  resolution: Exclude<HistogramResolution, 'exponential'>,
): ExplicitHistogram {
  const bounds = boundsBy[resolution];
  const perOctave = resolution === 'explicit' ? 1 : 4;
  const exactPerOctave = 2 ** exact.scale;
  const counts = new Array<number>(bounds.length + 1).fill(0);
  counts[0] = exact.zeroCount;
  for (let i = 0; i < exact.counts.length; i += 1) {
    // Bucket i ends at 2^((offset+i+1) / exactPerOctave); it belongs to the first bound that is not below that.
    const end = Math.ceil(((exact.offset + i + 1) * perOctave) / exactPerOctave);
    const bucket = Math.min(Math.max(end - firstOctave * perOctave, 0), bounds.length);
    counts[bucket] = (counts[bucket] ?? 0) + (exact.counts[i] ?? 0);
  }
  return { kind: 'explicit', count: exact.count, sum: exact.sum, bounds, counts };
}

function boundsOf(perOctave: number): readonly number[] {
  const octaves = lastOctave - firstOctave;
  return Array.from(
    { length: octaves * perOctave + 1 },
    (_, i) => 2 ** (firstOctave + i / perOctave),
  );
}
