import type { Policy } from '../contract/policy.ts';
import type { Observation } from './series.ts';

/**
 * Waiting this part of run + wait over two read intervals is no accident. Less than that comes and goes with whatever else
 * the machine does, and is no baseline in which a gain could be told: it has to last.
 */
const severeRatio = 0.3;
const mildSeconds = 3;
/** Enough windows for that at the fastest rate. */
export const contentionWindows = 20;
/** A window that is older, or than one and a half of its own span, says nothing of now. */
const staleSeconds = 0.4;
const slower = 1.5;
/** From 200 ms back to 1 s is a factor of five; on a starved host a read comes late by a factor of two, and is no calm. */
const muchSlower = 3;

/** Whether these windows, oldest first, are contention that goes on at `now` (seconds since the epoch). */
export function isContended(
  windows: readonly Observation[],
  policy: Policy['contention'],
  now: number,
): boolean {
  const [newest, previous, ...older] = [...windows].reverse();
  if (!previous || !newest) return false;
  const stale = now - newest.time > Math.max(staleSeconds, slower * newest.spanSeconds);
  // Contended instances come fast: one that comes more slowly again has calmed within this window.
  const calmed = newest.spanSeconds > muchSlower * previous.spanSeconds;
  if (stale || calmed) return false;
  const { waitCores, waitRatio } = policy;
  // The policy may set the thresholds to 0: who does not wait is still not contended.
  const waits = (o: Observation, ratio: number) =>
    o.waitCores > 0 &&
    o.waitCores >= waitCores &&
    o.waitCores >= ratio * (o.usedCores + o.waitCores);
  const severe = Math.max(severeRatio, waitRatio);
  // The window in which it began is a long one of calm for the most part: its average says less.
  const began = previous.spanSeconds > slower * newest.spanSeconds;
  if (waits(newest, severe) && waits(previous, began ? waitRatio : severe)) return true;
  let lastedSeconds = 0;
  for (const window of [newest, previous, ...older]) {
    if (!waits(window, waitRatio)) return false;
    lastedSeconds += window.spanSeconds;
    if (lastedSeconds >= mildSeconds) return true;
  }
  return false;
}
