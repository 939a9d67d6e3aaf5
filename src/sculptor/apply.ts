import type { Action, Allocation } from '../contract/action.ts';
import { ActuationError } from '../contract/errors.ts';
import type { Clock } from '../contract/ports.ts';
import type { UndoEntry } from './actuators/actuator.ts';
import { actuatorOf, runsOf } from './actuators/choose.ts';
import type { Journal } from './journal.ts';
import type { Kernel } from './kernel.ts';
import type { Plan } from './plan.ts';

/** How long the steps of an action took, in seconds. `planSeconds`: validation and snapshot. */
export type ActionTimings = {
  readonly action: string;
  readonly planSeconds: number;
  readonly journalSeconds: number;
  readonly applySeconds: number;
  readonly readBackSeconds: number;
};

/** A thread that is made while masks are set may escape; so often it is looked for. */
const mostRounds = 5;

/**
 * Writes the plan's old values to the journal and, when they are on disk, sets the new ones; then reads everything back.
 * Answers the entries as they are in the journal.
 * @throws ActuationError ACTUATION_*: what was set until then is in the journal, to be undone by the caller
 */
export function applyPlan(
  kernel: Kernel,
  journal: Pick<Journal, 'openEntries'>,
  clock: Clock,
  action: Action,
  plan: Plan,
): { entries: UndoEntry[]; timings: Omit<ActionTimings, 'action' | 'planSeconds'> } {
  const spent = { journalSeconds: 0, applySeconds: 0, readBackSeconds: 0 };
  const timed = <T>(key: keyof typeof spent, run: () => T): T => {
    const start = clock.monotonicSeconds();
    const answer = run();
    spent[key] += clock.monotonicSeconds() - start;
    return answer;
  };
  const entries: UndoEntry[] = [];
  let next: readonly UndoEntry[] = plan.entries;
  for (let round = 0; round < mostRounds && next.length > 0; round += 1) {
    const batch = next;
    timed('journalSeconds', () => journal.openEntries(action, entries.length, batch));
    entries.push(...batch);
    timed('applySeconds', () => {
      for (const run of runsOf(batch)) {
        const [first] = run;
        if (first) actuatorOf[first.kind].apply(kernel, run);
      }
    });
    next = plan.steps.flatMap(
      ({ move, actuator }) => actuator.latecomers?.(kernel, move, entries) ?? [],
    );
  }
  timed('readBackSeconds', () => checkReadBack(kernel, entries));
  return { entries, timings: spent };
}

function checkReadBack(kernel: Kernel, entries: readonly UndoEntry[]): void {
  const wrong = notOurs(kernel, entries);
  const [first] = wrong;
  if (!first) return;
  throw new ActuationError(
    'ACTUATION_READBACK',
    `${first.entry.resource}: wrote "${first.entry.wanted}", and the kernel holds "${first.held}" (${wrong.length} of ${entries.length} so)`,
    { resource: first.entry.resource, attempted: first.entry.wanted, previous: first.entry.before },
  );
}

/** Entries that hold something other than what was written, and still exist. */
export function notOurs(
  kernel: Kernel,
  entries: readonly UndoEntry[],
): { entry: UndoEntry; held: string | null }[] {
  return runsOf(entries).flatMap(run => {
    const [first] = run;
    const answers = first ? actuatorOf[first.kind].readBack(kernel, run) : [];
    return run.flatMap((entry, i) => {
      const answer = answers[i];
      return answer && answer.held !== null && !answer.ours ? { entry, held: answer.held } : [];
    });
  });
}

/** What was set, for the event: without the entries that only help to undo. */
export function allocationsOf(kernel: Kernel | null, entries: readonly UndoEntry[]): Allocation[] {
  return runsOf(
    entries.filter(each => each.kind !== 'born' && each.kind !== 'idle-weight'),
  ).flatMap(run => {
    const [first] = run;
    const held = kernel && first ? actuatorOf[first.kind].readBack(kernel, run) : [];
    return run.map(({ resource, before, wanted }, i) => ({
      resource,
      before,
      wanted,
      after: held[i]?.held ?? null,
    }));
  });
}
