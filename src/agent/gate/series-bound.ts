import type { Clock } from '../../contract/ports.ts';

/** How many series a guest may have in a window of ten minutes. */
export type SeriesBound = {
  /** Whether this series (or so many at once) is one of this window, or may still become one. */
  readonly takes: (identity: Buffer, series: number) => boolean;
};

/** An instance that comes later has its series after this at the latest; one that makes up names makes so many in it. */
const windowSeconds = 600;
/** One in forty is taken for one that was there, when all are. */
const bitsOfEach = 8;
const words = [0, 4, 8, 12];

/** A Bloom filter: a byte for each series that there may be, from the first one on, whatever a guest sends. `identity` is a hash. */
export function createSeriesBound(mostSeries: number, clock: Clock): SeriesBound {
  let bits = new Uint8Array(0);
  let left = 0;
  let until = Number.NEGATIVE_INFINITY;
  return {
    takes: (identity, series) => {
      const now = clock.monotonicSeconds();
      if (now >= until) {
        bits = new Uint8Array(mostSeries);
        left = mostSeries;
        until = now + windowSeconds;
      }
      const places = words.map(word => identity.readUInt32LE(word) % (mostSeries * bitsOfEach));
      const isSet = (place: number) => (((bits[place >>> 3] ?? 0) >>> (place & 7)) & 1) === 1;
      if (places.every(isSet)) return true;
      if (series > left) return false;
      left -= series;
      for (const place of places) bits[place >>> 3] = (bits[place >>> 3] ?? 0) | (1 << (place & 7));
      return true;
    },
  };
}
