import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { basename } from 'node:path';
import { buildGuest } from '../guest/guest.ts';
import type { Trial } from '../inside/programs.ts';
import { withLab } from '../lab.ts';
import { checkout } from './qemu.ts';

/** The page that says which program works on which kernel; `npm run kernels` writes it. */
export const page = `${checkout}/docs/kernels.md`;

/** Tries every program in the lab; those of KVM again while a nested guest ticks there, which slows all else. */
export async function tryInLab(kernel: string): Promise<Trial[]> {
  const guest = `/${basename(buildGuest(kernel))} kvm guest ${randomUUID()} /tmp/guest.qmp ticking,100`;
  return await withLab({ kernel, deadlineSeconds: 690 }, async lab => {
    const programs = async (objects = ''): Promise<Trial[]> => {
      const script = `cd /checkout && node test/lab/inside/programs.ts ${objects}`;
      return JSON.parse(await lab.run(script, { timeoutSeconds: 540 })) as Trial[];
    };
    const all = await programs();
    await lab.run('modprobe kvm_amd');
    await lab.start(`exec sh /checkout/test/lab/guest/run-guest.sh ${guest}`, '/tmp/guest.log');
    await lab.until('grep -q ^TICK /tmp/guest.log', 120);
    return [...all.filter(({ object }) => object !== 'kvm'), ...(await programs('kvm'))];
  });
}

/** The name of this machine's column. */
export function thisKernel(): string {
  return `Linux ${release().split('.').slice(0, 2).join('.')}`;
}

/** The same on this machine. */
export function tryHere(): Trial[] {
  const script = `${checkout}/test/lab/inside/programs.ts`;
  return JSON.parse(execFileSync('node', [script], { encoding: 'utf8' })) as Trial[];
}

export type Column = { readonly kernel: string; readonly trials: readonly Trial[] };

const cells: Readonly<Record<Trial['reached'], string>> = {
  counts: 'counts',
  attaches: 'attaches only',
  loads: 'loads only',
  refused: 'refused',
};

/** The table: a row for each program, a column for each kernel; what stopped a program stands in its cell. */
export function renderMatrix(columns: readonly Column[]): string {
  const programs = [...new Set(columns.flatMap(({ trials }) => trials.map(nameOf)))].sort();
  const rows = programs.map(program => {
    const found = columns.map(({ trials }) => trials.find(trial => nameOf(trial) === program));
    const section = found.find(trial => trial !== undefined)?.section;
    return `| \`${program}\` | \`${section}\` | ${found.map(cellOf).join(' | ')} |`;
  });
  const head = `| program | hook | ${columns.map(({ kernel }) => kernel).join(' | ')} |`;
  return [head, head.replace(/[^|]+/g, ' --- '), ...rows].join('\n');
}

/** A column of the page as it stands: program → cell. Empty when the page has no such kernel. */
export function readColumn(kernel: string, path = page): Map<string, string> {
  const rows = readFileSync(path, 'utf8')
    .split('\n')
    .filter(line => line.startsWith('| '))
    .map(line => line.split('|').map(cell => cell.trim()));
  const at = rows[0]?.indexOf(kernel) ?? -1;
  if (at < 0) return new Map();
  return new Map(rows.slice(2).map(row => [(row[1] ?? '').replaceAll('`', ''), row[at] ?? '']));
}

export function columnOf(trials: readonly Trial[]): Map<string, string> {
  return new Map(trials.map(trial => [nameOf(trial), cellOf(trial)]));
}

function nameOf({ object, program }: Trial): string {
  return `${object}/${program}`;
}

function cellOf(trial: Trial | undefined): string {
  if (!trial) return 'not tried';
  return trial.problem ? `${cells[trial.reached]}: ${trial.problem}` : cells[trial.reached];
}
