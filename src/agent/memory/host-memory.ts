import { readHostCounts } from '../../linux/memory.ts';
import { pressuresBy, readHostPressure } from '../../linux/pressure.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Sample } from '../../otlp/sample.ts';
import {
  type Counted,
  counterSamples,
  counterSeries,
  countersOf,
  withoutFall,
} from './memory-series.ts';

/** Faults, reclaim, NUMA balancing and pressure of the host as a whole, counted from now on (`start`). */
export function createHostMemory(
  roots: Roots,
  severalNodes: boolean,
  start: number,
): { read: () => void; samples: () => Sample[] } {
  const series = counterSeries('system.paging.faults', severalNodes);
  const take = (): Counted => ({
    counts: readHostCounts(roots),
    pressure: pressuresBy(resource => readHostPressure(roots, resource)),
  });
  let now = take();
  const before = countersOf(series, now);
  return {
    read: () => {
      const { counts, pressure } = take();
      now = { counts: withoutFall(counts, now.counts), pressure };
    },
    samples: () => counterSamples(series, now, before, start),
  };
}
