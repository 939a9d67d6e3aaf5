import { describeError } from '../contract/errors.ts';
import type { UndoResult } from './actuators/actuator.ts';
import { actuatorOf, runsOf } from './actuators/choose.ts';
import type { Journal, OpenEntry } from './journal.ts';
import type { Kernel } from './kernel.ts';

/** What giving back came to, by entry: counts, and a sentence for each that was not simply restored. */
export type UndoReport = {
  readonly restored: number;
  readonly gone: number;
  readonly yielded: number;
  readonly failed: number;
  readonly messages: readonly string[];
};

/** Sentences that a report carries at most. */
const mostMessages = 50;

/**
 * Gives back the open entries of one action, last applied first, and closes them in the journal; only what failed stays
 * open. Repeating it is harmless: what is back already is left as it is.
 */
export function undoEntries(
  kernel: Kernel,
  journal: Pick<Journal, 'closeEntries'>,
  open: readonly OpenEntry[],
  all: readonly OpenEntry[],
): UndoReport {
  const count = { restored: 0, gone: 0, yielded: 0, failed: 0 };
  const messages: string[] = [];
  for (const run of runsOf([...open].sort((a, b) => b.order - a.order))) {
    const results = undoRun(kernel, run, all);
    const states = run.map((entry, i) => ({ entry, state: results[i]?.state ?? 'failed' }));
    closeInJournal(journal, states, messages);
    for (const { state, message } of results) {
      count[state] += 1;
      if (state !== 'restored' && messages.length < mostMessages) messages.push(message);
    }
  }
  return { ...count, messages };
}

/** A journal that cannot be written (a full disk) keeps nothing from being given back: the entries are undone again later. */
export function closeInJournal(
  journal: Pick<Journal, 'closeEntries'>,
  results: readonly { entry: OpenEntry; state: UndoResult['state'] }[],
  messages: string[],
): void {
  try {
    journal.closeEntries(results);
  } catch (error) {
    messages.push(`given back, and could not be closed in the journal: ${describeError(error)}`);
  }
}

function undoRun(
  kernel: Kernel,
  run: readonly OpenEntry[],
  all: readonly OpenEntry[],
): UndoResult[] {
  const [first] = run;
  if (!first) return [];
  try {
    return actuatorOf[first.kind].undo(kernel, run, all);
  } catch (error) {
    // One kind that fails must not keep the others from being given back.
    return run.map(entry => ({
      state: 'failed',
      message: `${entry.resource}: ${describeError(error)}`,
    }));
  }
}
