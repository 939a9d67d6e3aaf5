import type { Say } from '../contract/ports.ts';
import type { Native } from '../linux/native.ts';
import type { Roots } from '../linux/roots.ts';
import { type Journal, openJournal } from './journal.ts';
import { bootId, type Kernel, openKernel } from './kernel.ts';

/** The journal, held by this process alone, and the kernel; `close` lets go of both. */
export type Store = {
  readonly journal: Journal;
  readonly kernel: Kernel;
  readonly close: () => void;
};

/**
 * Opens the journal, becomes its only holder, and opens the kernel.
 * @throws SculptorError JOURNAL when the file cannot be used, or when another process that lives holds it
 * @throws KernelInterfaceError KERNEL_MISSING when no cgroup hierarchy is mounted
 */
export function openStore(options: {
  readonly journal: string;
  readonly native: Native;
  readonly roots: Roots;
  readonly say: Say;
}): Store {
  const { native, roots, say } = options;
  const journal = openJournal(options.journal, bootId(roots), roots);
  try {
    const { kernel, close } = openKernel(native, roots, say);
    return {
      journal,
      kernel: { ...kernel, relaxed: journal.relaxed },
      close: () => {
        close();
        journal.close();
      },
    };
  } catch (error) {
    journal.close();
    throw error;
  }
}
