import type { Sample, Telling } from './sample.ts';
import { writeMetrics } from './write-metrics.ts';

/** Collectors take 4 MiB in a request unless configured otherwise. */
export const maxRequestBytes = 3_500_000;

/**
 * What is told of one resource at a time, as `writeMetrics` writes it: in so many requests that each is one that collectors take,
 * unless a single sample is none. Each holds until the next is written.
 * @throws TypeError for an attribute that is no AnyValue
 */
export function* writeParts(
  telling: Telling,
  samples: readonly Sample[],
  now: number,
  maxBytes = maxRequestBytes,
): Iterable<Uint8Array> {
  const written = writeMetrics(telling, samples, now);
  if (written.byteLength <= maxBytes || samples.length < 2) {
    yield written;
    return;
  }
  // What is not sent was not told: each half is shaped with what it is sent with.
  telling.temporal.take();
  const middle = samples.length >> 1;
  yield* writeParts(telling, samples.slice(0, middle), now, maxBytes);
  yield* writeParts(telling, samples.slice(middle), now, maxBytes);
}
