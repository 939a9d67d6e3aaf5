import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import { type CgroupLayout, cgroupIdOf, walkCgroups } from '../../linux/cgroups.ts';
import type { Sample } from '../../otlp/sample.ts';
import { startNetScript } from '../bpftrace/net-script.ts';
import { scriptContextOf } from '../bpftrace/script.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { exponentialHistogram, latencySlots } from '../probes/latency.ts';
import { type NetProbe, type NetTotals, startNetProbe } from '../probes/net.ts';
import type { Counters } from '../sources/counters.ts';
import { livesOf, strangersIn } from '../sources/lives.ts';
import { createProbeTally } from '../sources/probe-tally.ts';
import type { ComesAndGoes, SourceContext, SourceKind } from '../sources/source.ts';

/** How often each socket is looked at: a connection that lasts gives one round-trip time for each look. */
const lookSeconds = 1;
/** Where a look takes longer than this share of the time, looks are rarer: many sockets, or many threads to find them with. */
const mostOfTime = 0.001;

/** In a tally: bytes and packets either way, retransmits; count and sum of round-trip times, slots. */
const rttAt = 5;
const width = rttAt + 2 + latencySlots;

/** What TCP carries, sends again, and how long its round trips are: from the kernel's own counters, by bpf/net.bpf.c or bpf/net.bt. */
export const netSource: SourceKind = {
  name: 'net',
  tells: 'bytes, packets, retransmits and round-trip times of TCP',
  needs: bpfCapabilities,
  start: context => {
    const { native, layout, config } = context;
    const bpftrace = scriptContextOf(context);
    const probe: NetProbe & Partial<ComesAndGoes> = bpftrace
      ? startNetScript(bpftrace)
      : startNetProbe({
          native,
          cgroupV1: layout.version === 1,
          maxInstances: config.maxInstances,
        });
    const looks = startLooks(probe, context);
    const tally = createProbeTally<NetTotals>({
      width,
      countersOf: counters,
      eventsOf: packetsOf,
      drop: probe.forget,
      goneOf: createGoneFinder(layout),
    });
    return {
      name: 'net',
      read: living => {
        looks.last();
        const lives = livesOf(living);
        const totals = probe.readTotals();
        tally.take(totals, lives);
        tally.dropStrays(strangersIn(totals, lives), lives);
      },
      samples: living => netSamples(living, tally.of(living)),
      host: () => [],
      lost: () => ({ ...probe.lost(), unnamed: tally.unnamed() }),
      forget: tally.forget,
      trouble: probe.trouble,
      attached: probe.attached,
      stop: () => {
        looks.stop();
        return probe.stop();
      },
    };
  },
};

/**
 * Which of these cgroups are gone. One that is idle, so that the scheduler has not met it, may hold sockets all the same, and what
 * they carry finds no other entry. A walk takes some 25 µs for each cgroup there is: none is made for those that were found before.
 */
function createGoneFinder(layout: CgroupLayout): (cgroupIds: readonly number[]) => number[] {
  let paths: ReadonlyMap<number, string> = new Map();
  const isFound = (id: number): boolean => {
    const path = paths.get(id);
    return path !== undefined && cgroupIdOf(layout, path) === id;
  };
  return ids => {
    const sought = ids.filter(id => !isFound(id));
    if (sought.length > 0) ({ paths } = walkCgroups(layout));
    return sought.filter(id => !paths.has(id));
  };
}

type Looks = {
  /**
   * One more look, before a reading, where one is due.
   * @throws what a look of the timer threw
   */
  readonly last: () => void;
  readonly stop: () => void;
};

/** Looks at the sockets every second, and at who holds them as often as placements are told. */
function startLooks(probe: NetProbe, { clock, config }: SourceContext): Looks {
  let ownedAt = clock.monotonicSeconds();
  let dueAt = ownedAt;
  let failure: { error: unknown } | null = null;
  const look = (): void => {
    const now = clock.monotonicSeconds();
    if (now - ownedAt >= config.placementIntervalSeconds) {
      ownedAt = now;
      probe.own();
    }
    probe.look();
    dueAt = now + (clock.monotonicSeconds() - now) / mostOfTime;
  };
  const lookIfDue = (): void => {
    if (clock.monotonicSeconds() >= dueAt) look();
  };
  const stop = clock.every(lookSeconds, () => {
    try {
      lookIfDue();
    } catch (error) {
      failure = { error };
    }
  });
  return {
    last: () => {
      const failed = failure;
      failure = null;
      if (failed) throw failed.error;
      lookIfDue();
    },
    stop,
  };
}

function counters(totals: NetTotals): Counters {
  const { receivedBytes, sentBytes, receivedPackets, sentPackets, retransmits, rtt } = totals;
  const all = new Float64Array(width);
  all.set([receivedBytes, sentBytes, receivedPackets, sentPackets, retransmits]);
  all.set([rtt.latencyCount, rtt.latencySumNs], rttAt);
  all.set(rtt.slots, rttAt + 2);
  return all;
}

const packetsOf = ({ receivedPackets, sentPackets }: NetTotals): number =>
  receivedPackets + sentPackets;

const tcp: NonNullable<Sample['attributes']> = { [attr.networkTransport]: 'tcp' };
const tcpReceived = { [attr.networkDirection]: 'receive', ...tcp };
const tcpSent = { [attr.networkDirection]: 'transmit', ...tcp };

/** Nothing for an instance that never had a packet. */
function netSamples({ start }: LivingInstance, sums: Counters): Sample[] {
  const [received = 0, sent = 0, packetsReceived = 0, packetsSent = 0, retransmits = 0] = sums;
  if (packetsReceived + packetsSent === 0) return [];
  const [latencyCount = 0, latencySumNs = 0] = sums.subarray(rttAt, rttAt + 2);
  const slots = sums.subarray(rttAt + 2);
  const series = (metric: Sample['metric'], value: Sample['value'], attributes = tcp): Sample => ({
    metric,
    attributes,
    start,
    value,
  });
  return [
    series('sculptor.network.io', received, tcpReceived),
    series('sculptor.network.io', sent, tcpSent),
    series('sculptor.network.packets', packetsReceived, tcpReceived),
    series('sculptor.network.packets', packetsSent, tcpSent),
    series('sculptor.network.retransmits', retransmits),
    series('sculptor.network.rtt', exponentialHistogram({ latencyCount, latencySumNs, slots })),
  ];
}
