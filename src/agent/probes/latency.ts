import type { ExponentialHistogram } from '../../contract/telemetry.ts';

/** Slots of the kernel's histogram: buckets of an exponential histogram of scale 2, the first at 2^−30 s. */
export const latencySlots = 160;
const latencyScale = 2;
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

export function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * The exact histogram in seconds, as sources tell it whatever is exported (`agent.histograms`); empty buckets at both ends are
 * left out.
 */
export function exponentialHistogram(latencies: Latencies): ExponentialHistogram {
  const { slots } = latencies;
  let [first, end] = [0, slots.length];
  while (end > 0 && slots[end - 1] === 0) end -= 1;
  while (first < end && slots[first] === 0) first += 1;
  const counts: number[] = [];
  for (let i = first; i < end; i += 1) counts.push(slots[i] ?? 0);
  return {
    kind: 'exponential',
    count: latencies.latencyCount,
    sum: latencies.latencySumNs / 1e9,
    scale: latencyScale,
    zeroCount: 0,
    offset: firstIndex + first,
    counts,
  };
}
