import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { exponentialHistogram, latencySlots } from '../probes/latency.ts';
import { type NetProbe, type NetTotals, startNetProbe } from '../probes/net.ts';
import type { Counters } from '../sources/counters.ts';
import type { SourceContext, SourceKind } from '../sources/source.ts';
import { createTally } from '../sources/tally.ts';

/** How often each socket is looked at: a connection that lasts gives one round-trip time for each look. */
const lookSeconds = 1;
/** Where a look takes longer than this share of the time, looks are rarer: many sockets, or many threads to find them with. */
const mostOfTime = 0.001;

/** In a tally: bytes and packets either way, retransmits; count and sum of round-trip times, slots. */
const rttAt = 5;
const width = rttAt + 2 + latencySlots;

/** What TCP carries, sends again, and how long its round trips are: from the kernel's own counters, by bpf/net.bpf.c. */
export const netSource: SourceKind = {
  name: 'net',
  tells: 'bytes, packets, retransmits and round-trip times of TCP',
  needs: bpfCapabilities,
  start: context => {
    const { native, layout, config } = context;
    const probe = startNetProbe({
      native,
      cgroupV1: layout.version === 1,
      maxInstances: config.maxInstances,
    });
    const looks = startLooks(probe, context);
    const tally = createTally(width);
    return {
      name: 'net',
      read: living => {
        looks.last();
        const totals = probe.readTotals();
        for (const one of living) {
          for (const id of one.members.keys()) {
            const found = totals.get(id);
            if (found) tally.add(one, id, counters(found));
          }
        }
      },
      samples: living => netSamples(living, tally.of(living)),
      host: () => [],
      lost: probe.lost,
      forget: gone => {
        for (const [id, totals] of probe.forget([...gone.keys()])) {
          const living = gone.get(id);
          if (living) tally.add(living, id, counters(totals));
        }
        tally.forget(gone.keys());
      },
      stop: () => {
        looks.stop();
        probe.stop();
      },
    };
  },
};

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
