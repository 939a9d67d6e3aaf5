/** Three significant digits at most and the unit that fits: `0.14 ms`, `6.9 ms`, `1.2 s`. */
export function durationWords(seconds: number): string {
  const size = Math.abs(seconds);
  if (size >= 100) return `${Math.round(seconds)} s`;
  if (size >= 1) return `${trimmed(seconds)} s`;
  if (size >= 0.1) return `${Math.round(seconds * 1e3)} ms`;
  if (size >= 0.0001) return `${trimmed(seconds * 1e3)} ms`;
  return `${Math.round(seconds * 1e6)} µs`;
}

function trimmed(value: number): string {
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** `1.80 cores`. */
export function coresWords(cores: number): string {
  return `${cores.toFixed(2)} cores`;
}

/** A ratio 0..1 in per cent. */
export function percentWords(ratio: number): string {
  const percent = ratio * 100;
  return `${Math.abs(percent) < 10 && percent % 1 !== 0 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

/** How long ago a moment was, in whole units. */
export function agoWords(at: number, now: number): string {
  const seconds = Math.max(0, Math.round(now - at));
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}
