import { attr } from '../attributes.ts';
import { counter, histogram, of } from './spec.ts';

export const socketMetrics = of(['net', 'udp'], {
  'sculptor.network.io': counter(
    'By',
    'instance',
    'Payload that its sockets sent and received, by transport (tcp; udp in profile `full`). Of TCP each byte once: what was sent again is in the retransmits.',
    [attr.networkDirection, attr.networkTransport],
  ),
  'sculptor.network.packets': counter(
    '{packet}',
    'instance',
    'By transport: segments of TCP that its sockets sent and received, also those that only acknowledge; calls that sent or received a datagram of UDP (one call with several of them, by UDP_SEGMENT or UDP_GRO, is one).',
    [attr.networkDirection, attr.networkTransport],
  ),
});

export const netMetrics = of('net', {
  'sculptor.network.retransmits': counter(
    '{packet}',
    'instance',
    'Segments that its sockets sent again.',
    [attr.networkTransport],
  ),
  'sculptor.network.rtt': histogram(
    's',
    'instance',
    'Smoothed round-trip time of its connections: of each once a second, while something is acknowledged, and at its end.',
    [attr.networkTransport],
  ),
});

export const tapMetrics = of('taps', {
  'container.network.io': counter(
    'By',
    'instance',
    'Of a VM: bytes of the frames that its interfaces sent and received (as the VM sees it), by interface (tap or macvtap). Since that was first seen.',
    [attr.networkDirection, attr.networkInterface],
  ),
  'sculptor.network.interface.packets': counter(
    '{packet}',
    'instance',
    'Of a VM: frames that its interfaces sent and received, by interface. One frame of offloaded segments is one.',
    [attr.networkDirection, attr.networkInterface],
  ),
  'sculptor.network.interface.dropped': counter(
    '{packet}',
    'instance',
    'Of a VM: frames that were dropped on their way out of it (transmit) or into it (receive: it takes them too slowly), by interface.',
    [attr.networkDirection, attr.networkInterface],
  ),
});
