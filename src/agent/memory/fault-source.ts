import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import { readCpuIds } from '../../linux/topology.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { type FaultKind, type FaultTotals, startFaultsProbe } from '../probes/faults.ts';
import { exponentialHistogram, latencySlots } from '../probes/latency.ts';
import type { Counters } from '../sources/counters.ts';
import type { SourceKind } from '../sources/source.ts';
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
    const told = new WeakMap<LivingInstance, Sample[]>();
    const add = (living: LivingInstance, id: number, totals: FaultTotals): void => {
      tally.add(living, id, counters(totals));
      told.delete(living);
    };
    return {
      name: 'faults',
      read: living => {
        probe.follow(online());
        const lives = new Map<number, LivingInstance>();
        for (const one of living) for (const id of one.members.keys()) lives.set(id, one);
        for (const [id, totals] of probe.readChanged(lives)) {
          const one = lives.get(id);
          if (one) add(one, id, totals);
        }
      },
      samples: living => {
        const known = told.get(living) ?? faultSamples(living, tally.of(living));
        told.set(living, known);
        return known;
      },
      host: () => [],
      lost: probe.lost,
      forget: gone => {
        for (const [id, totals] of probe.forget([...gone.keys()])) {
          const living = gone.get(id);
          if (living) add(living, id, totals);
        }
        tally.forget(gone.keys());
      },
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
