/** A forecast that needs no model: three quantiles (0.5, 0.9, 0.95) in cores from a window, the same for every step ahead. */
export type SimpleForecast = readonly [q50: number, q90: number, q95: number];

export const challengerNames = ['naive', 'ses', 'windowQuantiles'] as const;
export type ChallengerName = (typeof challengerNames)[number];

/** The quantiles that are forecast. */
export const levels = [0.5, 0.9, 0.95] as const;

/** Smoothing of `ses`; models/training/accuracy.py measures with the same. */
const smoothing = 0.3;

/** What each simple challenger says of a window, which is oldest first and not empty. */
export function challenge(window: ArrayLike<number>): Record<ChallengerName, SimpleForecast> {
  const values = Array.from(window);
  const last = values.at(-1) ?? 0;
  return {
    naive: [last, last, last],
    ses: exponentialSmoothing(values),
    windowQuantiles: quantilesOf(values),
  };
}

/** Simple exponential smoothing, with the quantiles of its own one-step errors in the window. */
function exponentialSmoothing(values: readonly number[]): SimpleForecast {
  let level = values[0] ?? 0;
  const errors: number[] = [];
  for (const value of values.slice(1)) {
    errors.push(value - level);
    level += smoothing * (value - level);
  }
  const [e50, e90, e95] = quantilesOf(errors);
  return [Math.max(0, level + e50), Math.max(0, level + e90), Math.max(0, level + e95)];
}

function quantilesOf(values: readonly number[]): SimpleForecast {
  const sorted = [...values].sort((a, b) => a - b);
  const [q50 = 0, q90 = 0, q95 = 0] = levels.map(level => interpolated(sorted, level));
  return [q50, q90, q95];
}

/** Linear between the two nearest, as numpy does; 0 of nothing. */
function interpolated(sorted: readonly number[], level: number): number {
  const at = level * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? 0;
  return below + (at - Math.floor(at)) * ((sorted[Math.ceil(at)] ?? below) - below);
}

/** Pinball loss of three quantiles against what came, their mean, in cores. */
export function pinballLoss(forecast: readonly number[], actual: number): number {
  const losses = levels.map((level, i) => {
    const error = actual - (forecast[i] ?? 0);
    return Math.max(level * error, (level - 1) * error);
  });
  return losses.reduce((sum, loss) => sum + loss, 0) / levels.length;
}
