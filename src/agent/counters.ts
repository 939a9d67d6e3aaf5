/** Counters of one cgroup, in an order of their source's own; a histogram is a run of them. */
export type Counters = Float64Array;

/** What tasks of one cgroup waited in all while those of another ran (or other tasks of the same); ns. */
export type PairWait = { readonly waiter: number; readonly preemptor: number; readonly ns: number };
