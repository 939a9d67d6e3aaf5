/**
 * So far a clock that was set back is only waited for; what was set back further is followed. Each process waits by itself, and one that is
 * started meanwhile does not: they may differ by so much, which is less than any lease or expiry between them lasts.
 */
export const mostAheadSeconds = 10;

/** How fast time goes on until a clock that was set back is reached: rates look a ninth larger meanwhile. */
const waitingPace = 0.9;

/**
 * Seconds since the epoch for stamps: as the machine's clock tells, and never back. OTLP wants the start of a series not after its points,
 * and back ends refuse a point that is older than the last. Where the clock is set back, time goes on more slowly until it has
 * caught up; where it is set ahead, as after a machine was suspended, it is followed at once. Set back by more than
 * `mostAheadSeconds` it was wrong before: what is told must not be as wrong for hours, and time goes back with it.
 */
export function createSteadyTime(clock: {
  readonly unixSeconds: () => number;
  readonly monotonicSeconds: () => number;
}): () => number {
  let told = Number.NEGATIVE_INFINITY;
  let at = 0;
  return () => {
    const now = clock.unixSeconds();
    const monotonic = clock.monotonicSeconds();
    const held = told + (monotonic - at) * waitingPace;
    told = held - now > mostAheadSeconds ? now : Math.max(now, held);
    at = monotonic;
    return told;
  };
}
