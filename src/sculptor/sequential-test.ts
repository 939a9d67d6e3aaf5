/** An interval for mean(before) − mean(after), as it is at one look. */
export type Difference = {
  readonly difference: number;
  readonly lower: number;
  readonly upper: number;
};

/** Resolution of a wait ratio: two runs of constant samples still differ by this much. */
const floorDeviation = 0.005;

/**
 * The error probability that look `k` (1, 2, …) may spend: α / (k (k + 1)), which sums to α over all looks. So the test may
 * be looked at after every sample, for ever, and errs with probability at most α, whatever the looks' dependence (union bound).
 * @see Lan, DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70 (1983) 659: α spending
 */
export function alphaAtLook(alpha: number, look: number): number {
  return alpha / (look * (look + 1));
}

/**
 * Student's two-sided interval for mean(before) − mean(after) at level 1 − alpha, with the pooled variance: if the action
 * changed nothing both sides have one distribution, so the pooled variance is the right one for that hypothesis, and a
 * baseline of few samples (contention that began within the last second) borrows its spread from the samples after.
 * Null when either side is empty, or both have one sample only.
 * @see Student, "The probable error of a mean", Biometrika 6 (1908) 1
 */
export function studentDifference(
  before: readonly number[],
  after: readonly number[],
  alpha: number,
): Difference | null {
  const df = before.length + after.length - 2;
  if (before.length === 0 || after.length === 0 || df < 1) return null;
  const [b, a] = [meanAndSquares(before), meanAndSquares(after)];
  const deviation = Math.max(floorDeviation, Math.sqrt((b.squares + a.squares) / df));
  const scale = deviation * Math.sqrt(1 / before.length + 1 / after.length);
  const half = studentQuantile(1 - alpha / 2, df) * scale;
  const difference = b.mean - a.mean;
  return { difference, lower: difference - half, upper: difference + half };
}

function meanAndSquares(values: readonly number[]): { mean: number; squares: number } {
  const middle = mean(values);
  return { mean: middle, squares: values.reduce((sum, value) => sum + (value - middle) ** 2, 0) };
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? 0) + high) / 2;
}

/** Quantile p (0.5..1) of Student's t, by bisection of its distribution function; exact to 1e-9 of its scale. */
export function studentQuantile(p: number, df: number): number {
  let [low, high] = [0, 1];
  while (studentCdf(high, df) < p && high < 1e12) [low, high] = [high, high * 2];
  for (let i = 0; i < 80; i += 1) {
    const middle = (low + high) / 2;
    if (studentCdf(middle, df) < p) low = middle;
    else high = middle;
  }
  return high;
}

/** Abramowitz, Stegun 26.7.1: P(T ≤ t) = 1 − I_x(df/2, 1/2) / 2 with x = df / (df + t²), t ≥ 0. */
function studentCdf(t: number, df: number): number {
  return 1 - incompleteBeta(df / (df + t * t), df / 2, 0.5) / 2;
}

/** Regularised incomplete beta function by its continued fraction. @see Numerical Recipes, 3rd edition, section 6.4 */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(
    logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x),
  );
  return x < (a + 1) / (a + b + 2)
    ? (front * betaFraction(x, a, b)) / a
    : 1 - (front * betaFraction(1 - x, b, a)) / b;
}

/** Lentz's method. */
function betaFraction(x: number, a: number, b: number): number {
  const tiny = 1e-300;
  const guard = (value: number) => (Math.abs(value) < tiny ? tiny : value);
  let c = 1;
  let d = 1 / guard(1 - ((a + b) * x) / (a + 1));
  let h = d;
  for (let m = 1; m <= 300; m += 1) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    for (const term of [even, odd]) {
      d = 1 / guard(1 + term * d);
      c = guard(1 + term / c);
      h *= d * c;
    }
    if (Math.abs(d * c - 1) < 1e-12) break;
  }
  return h;
}

/** Lanczos' approximation, g = 7, n = 9. */
function logGamma(z: number): number {
  const coefficients = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
    1.5056327351493116e-7,
  ];
  if (z < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * z)) - logGamma(1 - z);
  const t = z + 6.5;
  const sum = coefficients.reduce(
    (total, value, i) => (i === 0 ? value : total + value / (z - 1 + i)),
    0,
  );
  return 0.5 * Math.log(2 * Math.PI) + (z - 0.5) * Math.log(t) - t + Math.log(sum);
}
