import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import { readCpuIds } from '../../linux/topology.ts';
import type { Sample } from '../../otlp/sample.ts';
import { startFaultsScript } from '../bpftrace/faults-script.ts';
import { scriptContextOf } from '../bpftrace/script.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { type FaultKind, type FaultTotals, startFaultsProbe } from '../probes/faults.ts';
import { exponentialHistogram, latencySlots } from '../probes/latency.ts';
import type { Counters } from '../sources/counters.ts';
import { livesOf } from '../sources/lives.ts';
import { createProbeTally } from '../sources/probe-tally.ts';
import type { SourceKind } from '../sources/source.ts';

const kinds: readonly FaultKind[] = ['minor', 'major'];
const attributesOf = kinds.map(kind => Object.freeze({ [attr.faultType]: kind }));
/** Of one kind in a tally: count, sum in ns, slots. */
const width = 2 + latencySlots;

/** How long page faults take, by kind: from the kernel by bpf/faults.bpf.c or bpf/faults.bt. */
export const faultSource: SourceKind = {
  name: 'faults',
  tells: 'the latency of page faults',
  needs: bpfCapabilities,
  start: context => {
    const { native, layout, roots, config } = context;
    const online = () => readCpuIds(roots).online;
    const bpftrace = scriptContextOf(context);
    const onlineCpus = online();
    const probe = bpftrace
      ? startFaultsScript(bpftrace, onlineCpus)
      : startFaultsProbe({
          native,
          cgroupV1: layout.version === 1,
          maxInstances: config.maxInstances,
          onlineCpus,
        });
    const told = new WeakMap<LivingInstance, Sample[]>();
    const tally = createProbeTally<FaultTotals>({
      width: kinds.length * width,
      countersOf: counters,
      eventsOf: ({ minor, major }) => minor.latencyCount + major.latencyCount,
      drop: probe.forget,
      added: living => told.delete(living),
    });
    return {
      name: 'faults',
      read: living => {
        probe.follow(online());
        const lives = livesOf(living);
        const { changed, others } = probe.readChanged(lives);
        tally.take(changed, lives);
        tally.dropStrays(others, lives);
      },
      samples: living => {
        const known = told.get(living) ?? faultSamples(living, tally.of(living));
        told.set(living, known);
        return known;
      },
      host: () => [],
      lost: () => ({ ...probe.lost(), unnamed: tally.unnamed() }),
      forget: tally.forget,
      trouble: probe.trouble,
      attached: probe.attached,
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
