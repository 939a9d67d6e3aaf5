import type { MapSums } from '../../src/linux/native.ts';

/** The words of a value, as the addon answers them. */
export function wordsOf(value: Buffer): Float64Array {
  return Float64Array.from({ length: value.length / 8 }, (_, i) =>
    Number(value.readBigUInt64LE(i * 8)),
  );
}

/** A key that is a number of 64 bits. */
export function keyOf(key: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(key));
  return bytes;
}

/** A map as the addon answers it: `entries` are keys and values, as they lie in memory. */
export function sumsOf(entries: readonly (readonly [key: Buffer, value: Buffer])[]): MapSums {
  return {
    count: entries.length,
    maxEntries: 4096,
    width: (entries[0]?.[1].length ?? 0) / 8,
    keys: Buffer.concat(entries.map(([key]) => key)),
    sums: wordsOf(Buffer.concat(entries.map(([, value]) => value))),
  };
}
