import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { startUdpProbe, type UdpTotals } from '../probes/udp.ts';
import type { Counters } from '../sources/counters.ts';
import { type Lives, livesOf } from '../sources/lives.ts';
import type { SourceKind } from '../sources/source.ts';
import { createStrays } from '../sources/strays.ts';
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
    const strays = createStrays();
    let unnamed = 0;
    const drop = (ids: readonly number[], lives: Lives): void => {
      for (const [id, totals] of probe.forget(ids)) {
        const one = lives.get(id);
        if (one) tally.add(one, id, counters(totals));
        else unnamed += totals.receivedPackets + totals.sentPackets;
      }
      tally.forget(ids);
    };
    return {
      name: 'udp',
      read: living => {
        const lives = livesOf(living);
        const totals = probe.readTotals();
        for (const [id, found] of totals) {
          const one = lives.get(id);
          if (one) tally.add(one, id, counters(found));
        }
        drop(strays.take([...totals.keys()].filter(id => !lives.has(id))), lives);
      },
      samples: living => udpSamples(living, tally.of(living)),
      host: () => [],
      lost: () => ({ ...probe.lost(), unnamed }),
      forget: gone => drop([...gone.keys()], gone),
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
