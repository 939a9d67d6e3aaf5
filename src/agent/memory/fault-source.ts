import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import { readCpuIds } from '../../linux/topology.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { type FaultKind, type FaultTotals, startFaultsProbe } from '../probes/faults.ts';
import { exponentialHistogram, latencySlots } from '../probes/latency.ts';
import type { Counters } from '../sources/counters.ts';
import { type Lives, livesOf } from '../sources/lives.ts';
import type { SourceKind } from '../sources/source.ts';
import { createStrays } from '../sources/strays.ts';
import { createTally } from '../sources/tally.ts';

const kinds: readonly FaultKind[] = ['minor', 'major'];
const attributesOf = kinds.map(kind => Object.freeze({ [attr.faultType]: kind }));
/** Of one kind in a tally: count, sum in ns, slots. */
const width = 2 + latencySlots;

/** How long page faults take, by kind: from the kernel by bpf/faults.bpf.c. */
export const faultSource: SourceKind = {
  name: 'faults',
  tells: 'the latency of page faults',
  needs: bpfCapabilities,
  start: ({ native, layout, roots, config }) => {
    const online = () => readCpuIds(roots).online;
    const probe = startFaultsProbe({
      native,
      cgroupV1: layout.version === 1,
      maxInstances: config.maxInstances,
      onlineCpus: online(),
    });
    const tally = createTally(kinds.length * width);
    const strays = createStrays();
    const told = new WeakMap<LivingInstance, Sample[]>();
    let unnamed = 0;
    const add = (living: LivingInstance, id: number, totals: FaultTotals): void => {
      tally.add(living, id, counters(totals));
      told.delete(living);
    };
    const drop = (ids: readonly number[], lives: Lives): void => {
      for (const [id, totals] of probe.forget(ids)) {
        const one = lives.get(id);
        if (one) add(one, id, totals);
        else unnamed += totals.minor.latencyCount + totals.major.latencyCount;
      }
      tally.forget(ids);
    };
    return {
      name: 'faults',
      read: living => {
        probe.follow(online());
        const lives = livesOf(living);
        const { changed, others } = probe.readChanged(lives);
        for (const [id, totals] of changed) {
          const one = lives.get(id);
          if (one) add(one, id, totals);
        }
        drop(strays.take(others), lives);
      },
      samples: living => {
        const known = told.get(living) ?? faultSamples(living, tally.of(living));
        told.set(living, known);
        return known;
      },
      host: () => [],
      lost: () => ({ ...probe.lost(), unnamed }),
      forget: gone => drop([...gone.keys()], gone),
      stop: probe.stop,
    };
  },
};

function counters(totals: FaultTotals): Counters {
  const all = new Float64Array(kinds.length * width);
  for (const [i, kind] of kinds.entries()) {
    const { latencyCount, latencySumNs, slots } = totals[kind];
    all.set([latencyCount, latencySumNs], i * width);
    all.set(slots, i * width + 2);
  }
  return all;
}

function faultSamples({ start }: LivingInstance, sums: Counters): Sample[] {
  return attributesOf.map((attributes, i) => {
    const [latencyCount = 0, latencySumNs = 0] = sums.subarray(i * width, i * width + 2);
    const slots = sums.subarray(i * width + 2, (i + 1) * width);
    return {
      metric: 'sculptor.memory.fault.latency',
      attributes,
      start,
      value: exponentialHistogram({ latencyCount, latencySumNs, slots }),
    };
  });
}
