import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hostRoots, type Roots } from '../../src/linux/roots.ts';

/** This machine, but for its BTF: a folder of links to all else. */
export function makeBtfLess(): { readonly roots: Roots; readonly remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-btf-less-'));
  const link = (inside: string, left: string): void => {
    mkdirSync(join(folder, inside), { recursive: true });
    for (const name of readdirSync(join(hostRoots.sys, inside)))
      if (name !== left) symlinkSync(join(hostRoots.sys, inside, name), join(folder, inside, name));
  };
  link('', 'kernel');
  link('kernel', 'btf');
  return {
    roots: { ...hostRoots, sys: folder },
    remove: () => rmSync(folder, { recursive: true }),
  };
}
