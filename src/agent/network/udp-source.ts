import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { startUdpProbe, type UdpTotals } from '../probes/udp.ts';
import type { Counters } from '../sources/counters.ts';
import type { SourceKind } from '../sources/source.ts';
import { createTally } from '../sources/tally.ts';

/** In a tally: bytes, then packets, either way. */
const width = 4;

/** What UDP carries, counted at each call on a socket by bpf/udp.bpf.c. */
export const udpSource: SourceKind = {
  name: 'udp',
  tells: 'bytes and datagrams of UDP',
  needs: bpfCapabilities,
  start: ({ native, layout, config }) => {
    const probe = startUdpProbe({
      native,
      cgroupV1: layout.version === 1,
      maxInstances: config.maxInstances,
    });
    const tally = createTally(width);
    return {
      name: 'udp',
      read: living => {
        const totals = probe.readTotals();
        for (const one of living) {
          for (const id of one.members.keys()) {
            const found = totals.get(id);
            if (found) tally.add(one, id, counters(found));
          }
        }
      },
      samples: living => udpSamples(living, tally.of(living)),
      host: () => [],
      lost: probe.lost,
      forget: gone => {
        for (const [id, totals] of probe.forget([...gone.keys()])) {
          const living = gone.get(id);
          if (living) tally.add(living, id, counters(totals));
        }
        tally.forget(gone.keys());
      },
      stop: probe.stop,
    };
  },
};

function counters(totals: UdpTotals): Counters {
  const { receivedBytes, sentBytes, receivedPackets, sentPackets } = totals;
  return Float64Array.of(receivedBytes, sentBytes, receivedPackets, sentPackets);
}

const udp = { [attr.networkTransport]: 'udp' };
const received = { [attr.networkDirection]: 'receive', ...udp };
const sent = { [attr.networkDirection]: 'transmit', ...udp };

/** Nothing for an instance that never had a datagram. */
function udpSamples({ start }: LivingInstance, sums: Counters): Sample[] {
  const [receivedBytes = 0, sentBytes = 0, receivedPackets = 0, sentPackets = 0] = sums;
  if (receivedPackets + sentPackets === 0) return [];
  const series = (
    metric: Sample['metric'],
    attributes: NonNullable<Sample['attributes']>,
    value: number,
  ): Sample => ({ metric, attributes, start, value });
  return [
    series('sculptor.network.io', received, receivedBytes),
    series('sculptor.network.io', sent, sentBytes),
    series('sculptor.network.packets', received, receivedPackets),
    series('sculptor.network.packets', sent, sentPackets),
  ];
}
