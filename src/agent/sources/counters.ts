/** Counters of one cgroup, in an order of their source's own; a histogram is a run of them. */
export type Counters = Float64Array;

/** What tasks of one cgroup waited while those of another ran (or other tasks of the same), since it was last read; ns. There may be thousands of pairs. */
export type PairWaits = {
  readonly forEach: (take: (waiter: number, preemptor: number, ns: number) => void) => void;
};
