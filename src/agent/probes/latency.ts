import type { ExplicitHistogram, ExponentialHistogram } from '../../contract/telemetry.ts';

/** Slots of the kernel's histogram: buckets of an exponential histogram of scale 2, the first at 2^−30 s. */
export const latencySlots = 160;
const latencyScale = 2;
const slotsPerOctave = 4;
/** Index of slot 0 in an OpenTelemetry exponential histogram in seconds. */
const firstIndex = -120;

/** A histogram as bpf/include/latency.bpf.h counts it: `slots[i]` counts latencies in bucket i − 120. */
export type Latencies = {
  latencyCount: number;
  latencySumNs: number;
  readonly slots: Float64Array;
};

/** A number of 64 bits as the kernel wrote it. Two halves of 32 bits: a BigInt each would cost ten times as much. */
export function uint64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 4_294_967_296;
}

/** The exact histogram in seconds; empty buckets at both ends are left out. */
export function exponentialHistogram(latencies: Latencies): ExponentialHistogram {
  let first = latencies.slots.findIndex(count => count > 0);
  let last = latencies.slots.findLastIndex(count => count > 0);
  if (first < 0) [first, last] = [0, -1];
  return {
    kind: 'exponential',
    count: latencies.latencyCount,
    sum: latencies.latencySumNs / 1e9,
    scale: latencyScale,
    zeroCount: 0,
    offset: firstIndex + first,
    counts: Array.from(latencies.slots.subarray(first, last + 1)),
  };
}

/** The octave bounds of the default export: 2^−20 s (0.95 µs) to 2^4 s. */
export const octaveBoundsSeconds: readonly number[] = Array.from(
  { length: 25 },
  (_, i) => 2 ** (i - 20),
);

/** Explicit buckets with octave bounds, merged from the exact ones: nothing is re-recorded. */
export function explicitHistogram(latencies: Latencies): ExplicitHistogram {
  const counts = new Array<number>(octaveBoundsSeconds.length + 1).fill(0);
  for (let slot = 0; slot < latencySlots; slot += 1) {
    // Slot s ends at 2^((s+1)/4 − 30) s; the bucket is the first whose bound is not below that.
    const bucket = Math.min(
      Math.max(Math.floor(slot / slotsPerOctave) + 1 - 30 + 20, 0),
      counts.length - 1,
    );
    counts[bucket] = (counts[bucket] ?? 0) + (latencies.slots[slot] ?? 0);
  }
  return {
    kind: 'explicit',
    count: latencies.latencyCount,
    sum: latencies.latencySumNs / 1e9,
    bounds: octaveBoundsSeconds,
    counts,
  };
}
