import type { GateDrop } from '../../contract/metrics/losses.ts';
import { type Counts, createCounts } from '../../otlp/counts.ts';

/** What was not let through, by reason. */
export type DropReason = GateDrop;

export type Drops = Counts<DropReason>;

/** Drops of one guest, which are drops of the gate as well. */
export function createDrops(all?: Drops): Drops {
  const own = createCounts<DropReason>();
  return {
    add: (reason, amount) => {
      own.add(reason, amount);
      all?.add(reason, amount);
    },
    read: own.read,
  };
}
