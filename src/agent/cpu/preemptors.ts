import { attr } from '../../contract/metrics.ts';
import type { PointAttributes } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { PairWaits } from '../sources/counters.ts';

/** One series: of one life, by whom its tasks waited for. */
export type PreemptorWait = {
  readonly preemptor: string;
  readonly attributes: PointAttributes;
  /** Seconds since the epoch; null: it begins with the life. */
  readonly start: number | null;
  readonly ns: number;
};

/** So many neighbours have a series of their own; the rest is `other`. */
const mostNamed = 5;

/** Who is named keeps its place until another has kept the instance waiting so many times as long of late: series that come and go tell nobody anything. */
const takesPlaceAbove = 2;

/** Neighbours of one instance that may come to be named. */
const mostCandidates = 20;

/** Those, and such as were named once, so that one that is named again goes on where it was. */
const mostKept = 50;

/** `ns` counts while it is named, `recentNs` always; `newNs`: of the reading that is being taken. */
type Neighbour = {
  readonly id: string;
  /** While it is named; the same object for as long. */
  attributes: PointAttributes | null;
  readonly start: number | null;
  ns: number;
  recentNs: number;
  newNs: number;
};

type Book = {
  readonly kept: Map<string, Neighbour>;
  /** Of the reading that is being taken, ns by id. */
  readonly newcomers: Map<string, number>;
  named: readonly Neighbour[];
  otherNs: number;
  /** Of those that were named, and are kept no more: it was told, and is no part of `other`, whose rate would show it again. */
  formerNs: number;
  noneNs: number;
  /** What as many neighbours as may be candidates have of late at least: with less nobody becomes one. */
  floorNs: number;
};

export type Preemptors = {
  /** Takes what came since the last reading; `lives`: cgroup id → the life it belongs to. */
  readonly take: (
    pairs: PairWaits,
    lives: { get(cgroupId: number): LivingInstance | null | undefined },
  ) => void;
  /**
   * For whom a life's tasks waited: the largest of late by name, each in its place while it is named, then `other`, and `none` (the CPU was idle and had to wake,
   * or it is not known), each of which never falls. `waitNs`: all that they waited.
   */
  readonly of: (living: LivingInstance, waitNs: number) => PreemptorWait[];
};

/**
 * Names the noisy neighbours. A neighbour's series counts what came while it was named: so neither it nor `other` falls when
 * another takes its place. `now`: in seconds since the epoch.
 */
export function createPreemptors(now: () => number): Preemptors {
  /** When pairs were taken last: who is kept from now on is counted from then on. */
  let takenAt: number | null = null;
  const books = new WeakMap<LivingInstance, Book>();
  const bookOf = (living: LivingInstance): Book => {
    const book = books.get(living) ?? {
      kept: new Map(),
      newcomers: new Map(),
      named: [],
      otherNs: 0,
      formerNs: 0,
      noneNs: 0,
      floorNs: 0,
    };
    books.set(living, book);
    return book;
  };

  return {
    take: (pairs, lives) => {
      const changed = new Set<Book>();
      const begun = (living: LivingInstance): Book => {
        const book = bookOf(living);
        if (!changed.has(book)) begin(book);
        changed.add(book);
        return book;
      };
      const byCgroup = new Map<number, Book | null>();
      // There are thousands of pairs: each is looked up once among those that are kept, and most of the others are too small to be.
      pairs.forEach((waiter, preemptor, ns) => {
        let book = byCgroup.get(waiter);
        if (book === undefined) {
          const living = lives.get(waiter);
          book = living ? begun(living) : null;
          byCgroup.set(waiter, book);
        }
        if (book !== null) add(book, lives.get(preemptor) ?? null, ns);
      });
      for (const book of changed) settle(book, takenAt);
      takenAt = now();
    },
    of: (living, waitNs) => {
      const book = bookOf(living);
      const { kept, named, otherNs, formerNs } = book;
      let sum = otherNs + formerNs;
      kept.forEach(({ ns }) => {
        sum += ns;
      });
      // The pairs are read a moment after the totals, and may be ahead of them.
      book.noneNs = Math.max(book.noneNs, waitNs - sum);
      return [
        ...named.map(neighbour => {
          neighbour.attributes ??= attributesOf(neighbour.id);
          const { id, attributes, start, ns } = neighbour;
          return { preemptor: id, attributes, start, ns };
        }),
        { preemptor: 'other', attributes: other, start: null, ns: otherNs },
        { preemptor: 'none', attributes: none, start: null, ns: book.noneNs },
      ];
    },
  };
}

const [other, none] = [attributesOf('other'), attributesOf('none')];

function attributesOf(preemptor: string): PointAttributes {
  return Object.freeze({ [attr.preemptor]: preemptor });
}

/** What counts is the last reading, and half of what counted before. */
function begin(book: Book): void {
  book.floorNs /= 2;
  book.kept.forEach(neighbour => {
    neighbour.recentNs /= 2;
    neighbour.newNs = 0;
  });
}

function add(book: Book, preemptor: LivingInstance | null, ns: number): void {
  const id = preemptor?.instance.id;
  const neighbour = id === undefined ? undefined : book.kept.get(id);
  if (neighbour) {
    neighbour.recentNs += ns;
    neighbour.newNs += ns;
  } else if (id === undefined || (ns < book.floorNs && preemptor?.members.size === 1)) {
    // A VM's may be more, by what its other cgroups add.
    book.otherNs += ns;
  } else book.newcomers.set(id, (book.newcomers.get(id) ?? 0) + ns);
}

/** `since`: when the pairs of this reading began to be counted. */
function settle(book: Book, since: number | null): void {
  const { kept, newcomers } = book;
  // Who was named before and is kept no more is not known: any newcomer may be one, whose series would fall.
  const start = book.formerNs > 0 ? since : null;
  const least = leastKept(kept, newcomers);
  newcomers.forEach((ns, id) => {
    if (ns >= least) kept.set(id, { id, attributes: null, start, ns: 0, recentNs: ns, newNs: ns });
    else book.otherNs += ns;
  });
  newcomers.clear();
  const ranked = [...kept.values()].sort((a, b) => b.recentNs - a.recentNs);
  const named = nextNamed(book.named, ranked);
  // What was encoded of a series is kept for as long as its attributes are, and of those that were named once most are not again soon.
  for (const one of book.named) if (!named.includes(one)) one.attributes = null;
  book.named = named;
  book.floorNs = ranked[mostCandidates - 1]?.recentNs ?? 0;
  ranked.forEach((neighbour, rank) => {
    const isNamed = named.includes(neighbour);
    if (isNamed) neighbour.ns += neighbour.newNs;
    else book.otherNs += neighbour.newNs;
    const isKept = rank < mostCandidates || (neighbour.ns > 0 && rank < mostKept);
    if (isKept || isNamed) return;
    book.formerNs += neighbour.ns;
    kept.delete(neighbour.id);
  });
}

/** One for all instances: an array of its own is memory outside of the heap each time. */
let scratch = new Float64Array(256);

/** Of many newcomers few can be kept: the `ns` below which one need not be begun with. */
function leastKept(
  kept: ReadonlyMap<string, Neighbour>,
  newcomers: ReadonlyMap<string, number>,
): number {
  const most = kept.size + newcomers.size;
  if (scratch.length < most) scratch = new Float64Array(2 * most);
  const recent = scratch.subarray(0, most);
  let at = 0;
  kept.forEach(({ recentNs }) => {
    recent[at++] = recentNs;
  });
  newcomers.forEach(ns => {
    recent[at++] = ns;
  });
  recent.sort();
  return recent.at(-mostCandidates) ?? 0;
}

/** `ranked`: all that are kept, the largest of late first. */
function nextNamed(named: readonly Neighbour[], ranked: readonly Neighbour[]): Neighbour[] {
  const next = [...named];
  for (const challenger of ranked.slice(0, mostNamed)) {
    if (next.includes(challenger)) continue;
    if (next.length < mostNamed) {
      next.push(challenger);
      continue;
    }
    const least = next.reduce((a, b) => (b.recentNs < a.recentNs ? b : a));
    if (challenger.recentNs > takesPlaceAbove * least.recentNs)
      next[next.indexOf(least)] = challenger;
  }
  return next;
}
