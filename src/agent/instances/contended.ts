import type { LivingInstance } from './instances.ts';

/** DESIGN, "Rates": what is worth a series of 200 ms. The worst first; the rest is only counted. */
export function contended(
  living: Iterable<LivingInstance>,
  most: number,
  threshold = { waitCores: 0.05, waitRatio: 0.1 },
): { fast: LivingInstance[]; uncounted: number } {
  const hot = [...living]
    .filter(
      ({ window: { usedCores, waitCores } }) =>
        waitCores >= threshold.waitCores &&
        waitCores >= threshold.waitRatio * (usedCores + waitCores),
    )
    .sort((a, b) => b.window.waitCores - a.window.waitCores);
  return { fast: hot.slice(0, most), uncounted: Math.max(0, hot.length - most) };
}
