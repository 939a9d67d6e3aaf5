import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import type { Sample } from '../../otlp/sample.ts';
import { scriptContextOf } from '../bpftrace/script.ts';
import { startUdpScript } from '../bpftrace/udp-script.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { startUdpProbe, type UdpProbe, type UdpTotals } from '../probes/udp.ts';
import type { Counters } from '../sources/counters.ts';
import { livesOf, strangersIn } from '../sources/lives.ts';
import { createProbeTally } from '../sources/probe-tally.ts';
import type { ComesAndGoes, SourceKind } from '../sources/source.ts';

/** In a tally: bytes, then packets, either way. */
const width = 4;

/** What UDP carries, counted at each call on a socket by bpf/udp.bpf.c or bpf/udp.bt. */
export const udpSource: SourceKind = {
  name: 'udp',
  tells: 'bytes and datagrams of UDP',
  needs: bpfCapabilities,
  start: context => {
    const { native, layout, config } = context;
    const bpftrace = scriptContextOf(context);
    const probe: UdpProbe & Partial<ComesAndGoes> = bpftrace
      ? startUdpScript(bpftrace)
      : startUdpProbe({
          native,
          cgroupV1: layout.version === 1,
          maxInstances: config.maxInstances,
        });
    const tally = createProbeTally<UdpTotals>({
      width,
      countersOf: counters,
      eventsOf: ({ receivedPackets, sentPackets }) => receivedPackets + sentPackets,
      drop: probe.forget,
    });
    return {
      name: 'udp',
      read: living => {
        const lives = livesOf(living);
        const totals = probe.readTotals();
        tally.take(totals, lives);
        tally.dropStrays(strangersIn(totals, lives), lives);
      },
      samples: living => udpSamples(living, tally.of(living)),
      host: () => [],
      lost: () => ({ ...probe.lost(), unnamed: tally.unnamed() }),
      forget: tally.forget,
      trouble: probe.trouble,
      attached: probe.attached,
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
