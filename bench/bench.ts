import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What one benchmark answers: its figures, the target beside each, and where the raw samples are. */
export type BenchResult = {
  readonly figures: Readonly<Record<string, unknown>>;
  /** Figure → what was wanted of it. */
  readonly targets: Readonly<Record<string, string>>;
  /** What differs from the shipped configuration, and why. */
  readonly overrides: Readonly<Record<string, string>>;
  readonly raw: string;
};

export type Tell = (line: string) => void;

export type Bench = (tell: Tell) => Promise<BenchResult>;

/** A new folder for raw samples under build/bench, which git does not see. */
export function rawFolder(name: string): string {
  const stamp = new Date().toISOString().replace(/[:.]/g, '-');
  const folder = join(import.meta.dirname, '..', 'build', 'bench', `${name}-${stamp}`);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Writes one raw file and answers its path. */
export function writeRaw(folder: string, name: string, rows: readonly object[]): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map(row => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

/** The middle value; of an even number the mean of the two in the middle. NaN of none. */
export function median(values: readonly number[]): number {
  return (quantile(values, 0.5, 'lower') + quantile(values, 0.5, 'upper')) / 2;
}

/** The smallest value that at least `ratio` of all do not exceed (`lower`), or the next one above (`upper`). */
export function quantile(
  values: readonly number[],
  ratio: number,
  side: 'lower' | 'upper' = 'lower',
): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = ratio * sorted.length;
  const index = side === 'lower' ? Math.ceil(position) - 1 : Math.floor(position);
  return sorted[Math.min(sorted.length - 1, Math.max(0, index))] ?? Number.NaN;
}
