import { type Action, type ActionReason, finalActionStates } from '../contract/action.ts';
import { describeError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';
import type { Native } from '../linux/native.ts';
import type { Roots } from '../linux/roots.ts';
import type { Journal } from './journal.ts';
import { bootId, type Kernel } from './kernel.ts';
import { openStore } from './store.ts';
import { closeInJournal, type UndoReport, undoEntries } from './undo.ts';

/**
 * `actions`: ids of the actions that held something, oldest first. `failed` > 0: run it again, or act on `messages`.
 * `ended`: those that came to their end by this, in state `restored`.
 */
export type RestoreReport = UndoReport & {
  readonly actions: readonly string[];
  readonly ended: readonly Action[];
};

/**
 * Undoes everything the journal shows as open, with nothing else running. Idempotent.
 * @throws SculptorError JOURNAL when the file cannot be used, or when a sculptor that lives holds it
 * @throws KernelInterfaceError KERNEL_BUSY when another acts on the host, KERNEL_MISSING when no cgroup hierarchy is mounted
 */
export function restoreAll(options: {
  readonly journal: string;
  readonly native: Native;
  readonly roots: Roots;
  readonly say: Say;
}): RestoreReport {
  const { journal, kernel, close } = openStore(options);
  try {
    const reason = { code: 'user', message: 'everything was given back by hand' } as const;
    return restoreOpen(kernel, journal, options.say, { reason, at: Date.now() / 1000 });
  } finally {
    close();
  }
}

/**
 * Undoes what is open, newest action first, but for those that go on (`running`). What another boot left open is gone with that
 * boot: tids, cgroups and all.
 */
export function restoreOpen(
  kernel: Kernel,
  journal: Journal,
  say: Say,
  end: { readonly reason: ActionReason; readonly at: number },
  running: ReadonlySet<string> = new Set(),
): RestoreReport {
  const open = journal.openActions().filter(action => !running.has(action.id));
  const boot = bootId(kernel.roots);
  const total = { restored: 0, gone: 0, yielded: 0, failed: 0 };
  const messages: string[] = [];
  const ended: Action[] = [];
  for (const held of [...open].reverse()) {
    const report =
      held.boot === boot
        ? undoEntries(kernel, journal, held.entries, journal.entriesOf(held.id))
        : closeAsGone(journal, held);
    for (const key of ['restored', 'gone', 'yielded', 'failed'] as const) total[key] += report[key];
    messages.push(...report.messages);
    for (const message of report.messages) say(report.failed > 0 ? 'error' : 'info', message);
    if (held.action && report.failed === 0 && !finalActionStates.has(held.action.state)) {
      const { state: previousState } = held.action;
      ended.push({ ...held.action, ...end, state: 'restored', previousState });
    }
  }
  for (const action of ended) {
    try {
      journal.saveAction(action);
    } catch (error) {
      // What was given back is told all the same: the next start finds it as it was.
      say(
        'error',
        `action ${action.id}: over, and could not be recorded so: ${describeError(error)}`,
      );
    }
  }
  return { ...total, messages, ended, actions: open.map(action => action.id) };
}

function closeAsGone(
  journal: Journal,
  held: ReturnType<Journal['openActions']>[number],
): UndoReport {
  const messages = [
    `action ${held.id}: its ${held.entries.length} values ended with an earlier boot`,
  ];
  const gone = held.entries.map(entry => ({ entry, state: 'gone' as const }));
  closeInJournal(journal, gone, messages);
  return { restored: 0, gone: gone.length, yielded: 0, failed: 0, messages };
}
