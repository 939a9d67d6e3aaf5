import { hasRun } from './add-change.ts';
import type { CgroupChanges } from './cgroup-changes.ts';
import type { InstanceBook, LivingInstance } from './instances.ts';
import type { Suspects } from './placements.ts';

/** Of the contended instances, and of those that ran or may have, so many are looked at each time, by turns. */
const perLook = 4;
const activeCores = 0.005;

/** Looks at all after CPUs went on- or offline: cpusets follow it, sooner or later. */
const looksAfterCpus = 2;

export type SuspectFinder = {
  /**
   * Whose placements to look at now: takes what was heard since the last time, and marks in the book who is gone. `contended`:
   * those that are now; `cpusChanged`: CPUs went on- or offline since.
   */
  readonly look: (contended: readonly LivingInstance[], cpusChanged: boolean) => Suspects;
};

/** Who may be placed otherwise by now: to whose cgroups somebody wrote, and by turns others, for what no write tells. */
export function createSuspectFinder({
  book,
  changes,
}: {
  readonly book: Pick<InstanceBook, 'living' | 'sweep'>;
  readonly changes: Pick<CgroupChanges, 'take' | 'complete'>;
}): SuspectFinder {
  let allFollow = 0;
  let turn = 0;

  const next = (all: readonly LivingInstance[]): LivingInstance[] => {
    const from = all.length === 0 ? 0 : turn % all.length;
    return [...all.slice(from), ...all.slice(0, from)].slice(0, perLook);
  };

  return {
    look: (contended, cpusChanged) => {
      const { changed, moved } = changes.take();
      const complete = changes.complete();
      book.sweep(moved || !complete);
      const given = [...changed, ...(complete ? [] : contended)];
      if (cpusChanged) allFollow = looksAfterCpus;
      if (allFollow > 0) {
        given.push(...book.living());
        allFollow -= 1;
      }
      const active = [...book.living()].filter(
        ({ window, totals }) =>
          window.usedCores + window.waitCores >= activeCores || !hasRun(totals),
      );
      // For what no write tells: tasks that come or go, a mask, a move to another cpuset. Contended ones have turns of their own.
      const byTurns = [...next(contended), ...next(active)];
      turn += perLook;
      return { given, byTurns };
    },
  };
}
