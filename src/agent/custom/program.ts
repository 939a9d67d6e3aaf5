import { beat } from '../bpftrace/output.ts';
import type { CustomHeader } from './header.ts';

/** The script as it is run: as the user wrote it (so that lines keep their numbers), and a probe that prints the maps. */
export function programOf(
  script: string,
  headers: readonly CustomHeader[],
  printIntervalSeconds: number,
): string {
  const milliseconds = Math.max(1, Math.round(printIntervalSeconds * 1000));
  const every = (interval: string, statements: readonly string[]): string =>
    statements.length > 0 ? `interval:${interval} { ${statements.join(' ')} }\n` : '';
  const prints = (isHeadline: boolean): string[] =>
    headers.filter(({ headline }) => headline === isHeadline).map(({ map }) => `print(@${map});`);
  // Its exit prints every map as well, and so does `exit()`.
  return `${script}\n${every(`ms:${milliseconds}`, prints(false))}${every('s:1', [...prints(true), beat])}`;
}

/** Buckets of hist() that are told: up to 2^40 of the script's own unit, as seven minutes in ns are 2^39; the rest is above. */
const octaves = 40;
/** Of one lhist(): each is a series in most backends. */
export const mostBuckets = 200;

/** How a map is filled: bounds of its buckets in the script's own unit, inclusive, as bpftrace has them. */
export type Buckets = { readonly kind: 'hist' | 'lhist'; readonly bounds: readonly number[] };

/**
 * The bounds never change while a series lives, though bpftrace prints only the buckets from the first to the last that
 * holds something: those of hist() are −1, 0, 1, 3, 7 … 2^40 − 1, those of lhist() follow from its arguments in the script.
 * Null: it is an lhist() whose arguments are not three numbers, or has too many buckets.
 */
export function bucketsOf(script: string, map: string): Buckets | null {
  const assigned = new RegExp(
    `@${map}(?![A-Za-z0-9_])(\\[[^;]*?\\])?\\s*=\\s*lhist\\(([^;]*)\\)`,
  ).exec(withoutComments(script));
  if (assigned === null)
    return {
      kind: 'hist',
      bounds: [-1, 0, ...Array.from({ length: octaves }, (_, i) => 2 ** (i + 1) - 1)],
    };
  const last = /,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(\d+)\s*$/.exec(assigned[2] ?? '');
  const [min, max, step] = (last ?? []).slice(1).map(Number);
  if (min === undefined || max === undefined || !step || (max - min) / step > mostBuckets)
    return null;
  const width = Math.ceil((max - min) / step);
  return {
    kind: 'lhist',
    bounds: Array.from({ length: width + 1 }, (_, i) => min + i * step - 1),
  };
}

/**
 * Whether the script itself prints a map in part (`print(@map, 5)`), or divided: bpftrace writes that as it writes the whole map, so
 * what is missing would be taken for cleared, and counted again with the next print.
 */
export function printsPartOf(script: string, map: string): boolean {
  return new RegExp(`\\bprint\\s*\\(\\s*@${map}\\s*,`).test(withoutComments(script));
}

function withoutComments(script: string): string {
  return script.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
}
