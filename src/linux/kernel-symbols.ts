import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** Answers the function that an address of the kernel lies in; the address in hexadecimal where that is not told. */
export type KernelSymbols = (address: bigint) => string;

/** Reads /proc/kallsyms, of some 200,000 lines: a few hundred ms and 20 MB, once. Hidden addresses read as 0 there. */
export function readKernelSymbols(roots: Roots): KernelSymbols {
  const symbols: { address: bigint; name: string }[] = [];
  for (const line of (readText(`${roots.proc}/kallsyms`) ?? '').split('\n')) {
    const [address, type, name] = line.split(/\s/);
    if (address && name && /^[tw]$/i.test(type ?? '') && !/^0+$/.test(address))
      symbols.push({ address: BigInt(`0x${address}`), name });
  }
  symbols.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  return address => {
    let [low, high] = [0, symbols.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((symbols[middle]?.address ?? 0n) <= address) low = middle + 1;
      else high = middle;
    }
    return symbols[low - 1]?.name ?? `0x${address.toString(16)}`;
  };
}
