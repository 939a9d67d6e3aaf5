import type { LivingInstance } from '../instances/instances.ts';
import { blockWords, type DiskDirection } from '../probes/block.ts';

/** So many devices of an instance have series of their own; the rest is `other`. */
const mostNamed = 4;
/**
 * Devices of one instance that are known. One that was ever named stays for the life, so that it goes on where it was when it
 * is named again; where all of them were, another is `other` for good.
 */
const mostKept = 32;

/** What one instance did on one device, or on `other`: never falls. */
export type DiskSums = {
  readonly device: string;
  readonly sums: ReadonlyMap<DiskDirection, Float64Array>;
};

type Disk = { readonly sums: Map<DiskDirection, Float64Array>; recent: number };

type Book = { kept: Map<string, Disk>; named: ReadonlySet<string>; readonly other: Disk };

export type DiskBook = {
  /** Takes what came to each device since the last call, of every instance at once. */
  readonly take: (changes: readonly DiskChange[]) => void;
  /** The busiest devices of late, and `other` where there were more. */
  readonly of: (living: LivingInstance) => DiskSums[];
};

export type DiskChange = {
  readonly living: LivingInstance;
  readonly device: string;
  readonly direction: DiskDirection;
  /** In the order of `blockWords`. */
  readonly words: Float64Array;
};

/**
 * Bounds the series of an instance. A device's series counts what came while it was among the busiest: so neither it nor
 * `other` falls when another takes its place.
 */
export function createDiskBook(): DiskBook {
  const books = new WeakMap<LivingInstance, Book>();
  const bookOf = (living: LivingInstance): Book => {
    const book = books.get(living) ?? { kept: new Map(), named: new Set(), other: newDisk() };
    books.set(living, book);
    return book;
  };
  return {
    take: changes => {
      const byLife = Map.groupBy(changes, ({ living }) => living);
      for (const [living, its] of byLife) {
        const book = bookOf(living);
        rank(book, its);
        for (const { device, direction, words } of its)
          addTo(book.named.has(device) ? book.kept.get(device) : book.other, direction, words);
      }
    },
    of: living => {
      const { kept, named, other } = bookOf(living);
      return [...named, 'other'].flatMap(device => {
        const { sums } = (named.has(device) && kept.get(device)) || other;
        return sums.size > 0 ? [{ device, sums }] : [];
      });
    },
  };
}

/** What counts is the last reading, and half of what counted before. */
function rank(book: Book, changes: readonly DiskChange[]): void {
  for (const disk of book.kept.values()) disk.recent /= 2;
  for (const { device, words } of changes) {
    const disk = book.kept.get(device) ?? newDisk();
    disk.recent += words[blockWords.operations] ?? 0;
    book.kept.set(device, disk);
  }
  const ranked = [...book.kept].sort(([, a], [, b]) => b.recent - a.recent);
  const untold = ranked.filter(([, { sums }]) => sums.size === 0);
  const room = mostKept - (ranked.length - untold.length);
  const dropped = new Set(untold.slice(room).map(([device]) => device));
  const kept = ranked.filter(([device]) => !dropped.has(device));
  book.kept = new Map(kept);
  book.named = new Set(kept.slice(0, mostNamed).map(([device]) => device));
}

function addTo(disk: Disk | undefined, direction: DiskDirection, words: Float64Array): void {
  if (!disk) return;
  const sum = disk.sums.get(direction) ?? new Float64Array(blockWords.end);
  for (let i = 0; i < sum.length; i += 1) sum[i] = (sum[i] ?? 0) + (words[i] ?? 0);
  disk.sums.set(direction, sum);
}

function newDisk(): Disk {
  return { sums: new Map(), recent: 0 };
}
