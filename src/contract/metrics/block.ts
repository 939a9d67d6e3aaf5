import { attr } from '../attributes.ts';
import { counter, histogram, of } from './spec.ts';

export const blockMetrics = of('block', {
  'sculptor.disk.latency': histogram(
    's',
    'instance',
    'Of each block I/O that it asked for, by phase: queue (from the I/O scheduler to the driver; 0 where there is no scheduler and the driver takes it at once) and device (from the driver to the end). The 4 busiest devices of an instance, and `other`. Writeback is its own on cgroup v2 where the io controller is on, else that of `/`, as are flushes.',
    [attr.diskPhase, attr.device, attr.diskDirection],
  ),
  'container.disk.io': counter(
    'By',
    'instance',
    'Bytes that it read from and wrote to block devices; of requests that failed too, as /proc/diskstats has them.',
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
    'Requests that did not go straight from queue to device to end, by reason: merged (into another), requeued (given back by the driver; each time counts, and SCSI gives one back seven times before it asks a host again that was busy), in_parts (ended by and by; each part but the last counts) and failed (for good; what SCSI tries again is requeued; of multipath the failure of each path counts, and that of the whole). What device-mapper (but for multipath) or md fails without asking a disk is no request.',
    [attr.reason],
  ),
});

export const vdiskMetrics = of('vdisks', {
  'sculptor.vdisk.io': counter(
    'By',
    'instance',
    "Bytes that a VM's guest read from and wrote to its drives, as QEMU counts them. The device is the drive's name: as QMP has it `-drive id=…` or the device's id, as libvirt has it the disk's target (vda). Overlaps with container.disk.io, which is what of it came to the host's disks.",
    [attr.device, attr.diskDirection],
  ),
  'sculptor.vdisk.operations': counter(
    '{operation}',
    'instance',
    "Operations of a VM's guest on its drives that QEMU has done, by direction (read, write, flush, discard). Of discards QEMU counts those of SCSI and IDE drives, not of virtio-blk, and libvirt tells none.",
    [attr.device, attr.diskDirection],
  ),
  'sculptor.vdisk.time': counter(
    's',
    'instance',
    'Time that those operations took, each from when QEMU was asked until it had done it, with what a limit of the drive held it up. By operations: the mean latency that the guest saw.',
    [attr.device, attr.diskDirection],
  ),
});
