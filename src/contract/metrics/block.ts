import { attr } from '../attributes.ts';
import { counter, histogram, of } from './spec.ts';

export const blockMetrics = of('block', {
  'sculptor.disk.latency': histogram(
    's',
    'instance',
    'Of each block I/O that it asked for, by phase: queue (from the I/O scheduler to the driver; 0 where there is no scheduler) and device (from the driver to the end). The 4 busiest devices of an instance, and `other`. Writeback is its own on cgroup v2 where the io controller is on, else that of `/`, as are flushes.',
    [attr.diskPhase, attr.device, attr.diskDirection],
  ),
  'container.disk.io': counter(
    'By',
    'instance',
    'Bytes that it read from and wrote to block devices.',
    [attr.device, attr.diskDirection],
  ),
  'sculptor.disk.operations': counter(
    '{operation}',
    'instance',
    'Requests to block devices that have ended, by direction (read, write, flush, discard). Those that were merged are one.',
    [attr.device, attr.diskDirection],
  ),
  'sculptor.disk.irregular': counter(
    '{request}',
    'host',
    'Requests that did not go straight from queue to device to end, by reason: merged (into another), requeued (given back by the driver), in_parts (ended by and by; each part counts) and failed.',
    [attr.reason],
  ),
});
