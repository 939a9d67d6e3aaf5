/** Counters of one cgroup, in an order of their source's own; a histogram is a run of them. */
export type Counters = Float64Array;
