/** Counters by reason. The names are the caller's literals, so their number is bounded. */
export type Counts<K extends string> = {
  readonly add: (key: K, amount?: number) => void;
  /** A copy; keys that never happened are absent. */
  readonly read: () => Readonly<Partial<Record<K, number>>>;
};

export function createCounts<K extends string>(): Counts<K> {
  const counts: Partial<Record<K, number>> = {};
  return {
    add: (key, amount = 1) => {
      counts[key] = (counts[key] ?? 0) + amount;
    },
    read: () => ({ ...counts }),
  };
}
