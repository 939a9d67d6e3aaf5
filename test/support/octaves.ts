/** Counts by octave of µs: `octaves[n]` counts 2^n to 2^(n+1) − 1 µs, and 0 µs is in the first. */
export type Octaves = readonly number[];

/** One histogram as Debian's libbpf-tools print it. */
export function parseOctaves(printed: string): Octaves {
  const octaves: number[] = [];
  for (const [, from, count] of printed.matchAll(/^\s+(\d+) -> \d+\s+: (\d+)/gm))
    octaves[Math.floor(Math.log2(Math.max(1, Number(from))))] = Number(count);
  return octaves;
}

/** A probe's slots of a quarter of an octave each, from 2^−30 s on, as octaves of µs. */
export function toOctaves(slots: Float64Array): Octaves {
  const octaves: number[] = [];
  for (const [slot, count] of slots.entries()) {
    const middleUs = 2 ** ((slot + 0.5) / 4 - 30) * 1e6;
    const octave = Math.max(0, Math.floor(Math.log2(middleUs)));
    octaves[octave] = (octaves[octave] ?? 0) + count;
  }
  return octaves;
}

export const countOf = (octaves: Octaves): number =>
  octaves.reduce((total, count) => total + (count ?? 0), 0);

/** Octave in which the quantile lies. */
export function quantileOctave(octaves: Octaves, ratio: number): number {
  const all = countOf(octaves);
  let seen = 0;
  return octaves.findIndex(count => {
    seen += count ?? 0;
    return seen >= ratio * all;
  });
}
