/**
 * Share of a CPU that a task's cgroup must be worth, beside busy contenders, for its wake-ups to be served at once. Its
 * fluid demand is not enough: under EEVDF a waking entity takes the CPU only when its virtual deadline (slice / weight)
 * lies before the running one's, so late wake-ups become rarer as the contenders' part of the weight shrinks.
 * Measured with bench/calibration/weights.sh on Linux 6.18.
 */
const promptShare = 0.94;

/** The least share that is still prompt for 99 of 100 wake-ups: what is settled for where cgroup v2's range ends. */
const leastPromptShare = 0.88;

/** Room above the forecast demand, for what the forecast misses. */
const headroom = 1.2;

export const largestWeight = 10_000;
const defaultWeight = 100;

/** The share (0..1) that is wanted for a demand in cores per task. */
export function wantedShare(demandPerTask: number): number {
  return Math.min(0.98, Math.max(promptShare, demandPerTask * headroom));
}

/** Fluid share of a CPU of an entity of this weight beside contenders' weight on the same CPU. */
export function shareOf(weight: number, contendersWeight: number): number {
  return weight / (weight + contendersWeight);
}

/**
 * The smallest weight, rounded up to whole multiples of the default one, whose share is the wanted one. Where that is
 * past cgroup v2's largest, the largest, if it is still prompt; else null.
 */
export function weightFor(wanted: number, contendersWeight: number): number | null {
  const exact = (contendersWeight * wanted) / (1 - wanted);
  const weight = Math.max(defaultWeight, Math.ceil(exact / defaultWeight) * defaultWeight);
  if (weight <= largestWeight) return weight;
  return shareOf(largestWeight, contendersWeight) >= leastPromptShare ? largestWeight : null;
}

/**
 * Wait that is left at a share, as a part of the wait without the move: late wake-ups are as frequent as the contenders'
 * part of the weight, and each is as late as before.
 */
export function waitLeft(share: number, shareBefore: number): number {
  return Math.min(1, (1 - share) / Math.max(1e-6, 1 - shareBefore));
}
