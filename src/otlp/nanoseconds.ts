/** A time in ns since the epoch, as the halves of 64 bits. */
export type Nanoseconds = { readonly low: number; readonly high: number };

/** Of seconds since the epoch, as OpenTelemetry's HrTime has them: whole seconds, and the nanoseconds rounded. */
export function nanoseconds(seconds: number): Nanoseconds {
  const whole = Math.floor(seconds);
  const ns = BigInt(whole) * 1_000_000_000n + BigInt(Math.round((seconds - whole) * 1e9));
  return { low: Number(ns & 0xffff_ffffn), high: Number(ns >> 32n) };
}
