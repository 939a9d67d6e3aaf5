/** A cgroup that is no instance's in so many readings, one after another, is to be dropped: the kernel's map must not fill up. */
const readsUntilDropped = 3;

export type Strays = {
  /** Takes the cgroups of one reading of a kernel's map that belong to no life; answers those that are to be dropped from it. */
  readonly take: (cgroupIds: Iterable<number>) => number[];
};

/**
 * What would stay in a map of the kernel for good. Of cgroups that the book of instances has met it says when they are gone; but one
 * may come and go while the scheduler's map is full, or be charged once more after its end, and is in that book no more, or never was.
 */
export function createStrays(): Strays {
  let reads: ReadonlyMap<number, number> = new Map();
  return {
    take: cgroupIds => {
      const dropped: number[] = [];
      const kept = new Map<number, number>();
      for (const id of new Set(cgroupIds)) {
        const times = (reads.get(id) ?? 0) + 1;
        if (times < readsUntilDropped) kept.set(id, times);
        else dropped.push(id);
      }
      reads = kept;
      return dropped;
    },
  };
}
