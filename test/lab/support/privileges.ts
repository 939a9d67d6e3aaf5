import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Need, Needs } from '../inside/privileges.ts';
import { withLab } from '../lab.ts';
import { readColumn } from './kernels.ts';
import { checkout } from './qemu.ts';

/** The page that says which capabilities each source needs; `npm run privileges` writes it. */
export const page = `${checkout}/docs/privileges.md`;

const script = 'test/lab/inside/privileges.ts';

/** Measures it in the lab. */
export async function measureInLab(kernel: string): Promise<Needs> {
  return await withLab({ kernel, deadlineSeconds: 600 }, async lab => {
    await lab.run('modprobe kvm_amd');
    const command = `cd /checkout && node ${script}`;
    return JSON.parse(await lab.run(command, { timeoutSeconds: 540 })) as Needs;
  });
}

/** The same on this machine. */
export function measureHere(): Needs {
  const node = [`${checkout}/${script}`];
  return JSON.parse(execFileSync('node', node, { encoding: 'utf8', stdio: 'pipe' })) as Needs;
}

/** Source → what stands in its cell. */
export type Column = { readonly kernel: string; readonly cells: ReadonlyMap<string, string> };

export function columnOf(kernel: string, needs: Needs): Column {
  return {
    kernel,
    cells: new Map(Object.entries(needs).map(([name, need]) => [name, cell(need)])),
  };
}

/** A column of the page as it stands. */
export function writtenColumn(kernel: string): Column {
  return { kernel, cells: existsSync(page) ? readColumn(kernel, page) : new Map() };
}

function cell(need: Need): string {
  if ('refused' in need) return `not there: ${need.refused.split(':')[0]}`;
  return need.needs.length === 0 ? 'none' : need.needs.join(', ');
}

/** A row for each source in this order, with what it tells; a column for each kernel. */
export function renderTable(
  columns: readonly Column[],
  sources: readonly { readonly name: string; readonly tells: string }[],
): string {
  const head = `| source | ${columns.map(({ kernel }) => kernel).join(' | ')} | what it tells |`;
  const rows = sources.map(({ name, tells }) => {
    const cells = columns.map(column => column.cells.get(name) ?? 'not tried');
    return `| \`${name}\` | ${cells.join(' | ')} | ${tells} |`;
  });
  return [head, head.replace(/[^|]+/g, ' --- '), ...rows].join('\n');
}
