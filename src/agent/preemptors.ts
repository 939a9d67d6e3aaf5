import type { PairWait } from './counters.ts';
import type { LivingInstance } from './instances.ts';

/** One series: of one life, by whom its tasks waited for. */
export type PreemptorWait = { readonly preemptor: string; readonly ns: number };

/** So many neighbours have a series of their own; the rest is `other`. */
const mostNamed = 5;

/** Neighbours of one instance whose sums are kept, so that one that is named again goes on where it was. */
const mostKept = 50;

type Book = {
  kept: Map<string, { ns: number; recentNs: number }>;
  named: string[];
  otherNs: number;
  noneNs: number;
};

export type Preemptors = {
  /** Takes what came since the last reading; `lives`: cgroup id → the life it belongs to. */
  readonly take: (
    pairs: readonly PairWait[],
    lives: { get(cgroupId: number): LivingInstance | null | undefined },
  ) => void;
  /**
   * For whom a life's tasks waited: the largest of late by name, then `other`, and `none` (the CPU was idle and had to wake,
   * or it is not known), each of which never falls. `waitNs`: all that they waited.
   */
  readonly of: (living: LivingInstance, waitNs: number) => PreemptorWait[];
};

/**
 * Names the noisy neighbours. A neighbour's series counts what came while it was named: so neither it nor `other` falls when
 * another takes its place.
 */
export function createPreemptors(): Preemptors {
  const books = new WeakMap<LivingInstance, Book>();
  const bookOf = (living: LivingInstance): Book => {
    const book = books.get(living) ?? { kept: new Map(), named: [], otherNs: 0, noneNs: 0 };
    books.set(living, book);
    return book;
  };

  return {
    take: (pairs, lives) => {
      const changes = new Map<LivingInstance, Map<string, number>>();
      for (const pair of pairs) {
        const waiter = lives.get(pair.waiter);
        if (!waiter) continue;
        const preemptor = lives.get(pair.preemptor)?.instance.id ?? 'other';
        const change = changes.get(waiter) ?? new Map<string, number>();
        change.set(preemptor, (change.get(preemptor) ?? 0) + pair.ns);
        changes.set(waiter, change);
      }
      for (const [living, change] of changes) {
        addTo(bookOf(living), change);
      }
    },
    of: (living, waitNs) => {
      const book = bookOf(living);
      const { kept, named, otherNs } = book;
      const sum = [...kept.values()].reduce((ns, each) => ns + each.ns, otherNs);
      // The pairs are read a moment after the totals, and may be ahead of them.
      book.noneNs = Math.max(book.noneNs, waitNs - sum);
      return [
        ...named.map(preemptor => ({ preemptor, ns: kept.get(preemptor)?.ns ?? 0 })),
        { preemptor: 'other', ns: otherNs },
        { preemptor: 'none', ns: book.noneNs },
      ];
    },
  };
}

/** What counts is the last reading, and half of what counted before. */
function addTo(book: Book, change: ReadonlyMap<string, number>): void {
  const recent = new Map([...book.kept].map(([id, { recentNs }]) => [id, recentNs / 2]));
  for (const [id, ns] of change) if (id !== 'other') recent.set(id, (recent.get(id) ?? 0) + ns);
  const ranked = [...recent].sort((a, b) => b[1] - a[1]);
  book.named = ranked.slice(0, mostNamed).map(([id]) => id);
  const before = book.kept;
  book.kept = new Map(
    ranked
      .slice(0, mostKept)
      .map(([id, recentNs]) => [id, { ns: before.get(id)?.ns ?? 0, recentNs }]),
  );
  for (const [id, ns] of change) {
    const own = book.named.includes(id) ? book.kept.get(id) : undefined;
    if (own) own.ns += ns;
    else book.otherNs += ns;
  }
  // What was told of a neighbour that is no longer kept is told as `other` from here on: the sum stays.
  for (const [id, { ns }] of before) if (!book.kept.has(id)) book.otherNs += ns;
}
