import { open } from 'node:fs/promises';
import type { Roots } from './roots.ts';

export type KernelSymbols = {
  /** Finds the functions of these addresses that are not known yet: one walk through /proc/kallsyms, some 0.3 s, in slices. */
  readonly learn: (addresses: readonly bigint[]) => Promise<void>;
  /** The function that an address lies in; the address in hexadecimal where the kernel does not tell, or nobody asked. */
  readonly nameOf: (address: bigint) => string;
};

/** What is kept; a kernel has few places where threads leave their CPUs. */
const mostKnown = 8192;
/** Beyond this the symbol below is not the function's: a module that has gone, code that was made at run time. */
const longestFunction = 65_536n;

/** Names kernel addresses without keeping the table of symbols, which is tens of MB. */
export function createKernelSymbols(roots: Roots): KernelSymbols {
  const known = new Map<bigint, string>();
  const hex = (address: bigint): string => `0x${address.toString(16)}`;
  return {
    learn: async addresses => {
      const wanted = [...new Set(addresses)].filter(address => !known.has(address));
      if (wanted.length === 0) return;
      if (known.size + wanted.length > mostKnown) known.clear();
      const names = await namesOf(`${roots.proc}/kallsyms`, wanted);
      for (const address of wanted) known.set(address, names.get(address) ?? hex(address));
    },
    nameOf: address => known.get(address) ?? hex(address),
  };
}

type Symbol = { readonly address: bigint; readonly name: string };

async function namesOf(path: string, wanted: readonly bigint[]): Promise<Map<bigint, string>> {
  const sorted = [...wanted].sort((a, b) => (a < b ? -1 : 1));
  /** By index in `sorted`: the nearest symbol that is above the address before it, and not above its own. */
  const nearest: (Symbol | undefined)[] = sorted.map(() => undefined);
  const file = await open(path);
  for await (const line of file.readLines()) {
    const [text = '', type = '', name] = line.split(/\s/);
    // Addresses that are hidden read as 0.
    if (!name || !/^[tw]$/i.test(type) || /^0*$/.test(text)) continue;
    const address = BigInt(`0x${text}`);
    const index = firstNotBelow(sorted, address);
    const best = nearest[index];
    if (index < sorted.length && (!best || best.address < address))
      nearest[index] = { address, name };
  }
  const names = new Map<bigint, string>();
  let below: Symbol | undefined;
  for (const [index, address] of sorted.entries()) {
    below = nearest[index] ?? below;
    if (below && address - below.address < longestFunction) names.set(address, below.name);
  }
  return names;
}

function firstNotBelow(sorted: readonly bigint[], address: bigint): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0n) < address) low = middle + 1;
    else high = middle;
  }
  return low;
}
