import type { Say } from '../contract/ports.ts';
import type { Native } from '../linux/native.ts';
import type { Roots } from '../linux/roots.ts';
import { lockHost } from './host-lock.ts';
import { type Journal, openJournal } from './journal.ts';
import { bootId, type Kernel, openKernel } from './kernel.ts';

/** The journal and the kernel, held by this process alone; `close` lets go of both. */
export type Store = {
  readonly journal: Journal;
  readonly kernel: Kernel;
  readonly close: () => void;
};

/**
 * Becomes the only process that acts on the host, and the journal's only holder, and opens the kernel.
 * @throws SculptorError JOURNAL when the file cannot be used, or when another process that lives holds it
 * @throws KernelInterfaceError KERNEL_BUSY when another that lives acts on the host, KERNEL_MISSING when no cgroup hierarchy is mounted
 */
export function openStore(options: {
  readonly journal: string;
  readonly native: Native;
  readonly roots: Roots;
  readonly say: Say;
}): Store {
  const { native, roots, say } = options;
  const opened: (() => void)[] = [];
  const close = (): void => {
    for (const each of opened.splice(0).reverse()) each();
  };
  try {
    opened.push(lockHost(native, roots, say));
    const journal = openJournal(options.journal, bootId(roots), roots);
    opened.push(journal.close);
    const { kernel, close: closeKernel } = openKernel(native, roots, say);
    opened.push(closeKernel);
    return { journal, kernel: { ...kernel, relaxed: journal.relaxed }, close };
  } catch (error) {
    close();
    throw error;
  }
}
