/** Counters of one cgroup, in an order of their source's own; a histogram is a run of them. */
export type Counters = Float64Array;

/** What tasks of one cgroup waited while those of another ran (or other tasks of the same), since it was last read; ns. */
export type PairWait = { readonly waiter: number; readonly preemptor: number; readonly ns: number };
