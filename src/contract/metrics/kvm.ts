import { attr } from '../attributes.ts';
import { counter, of } from './spec.ts';

export const kvmMetrics = of('kvm', {
  'sculptor.vcpu.exits': counter(
    '{exit}',
    'task',
    "How often a vCPU under KVM left its guest, by reason: words for what the CPU tells, the same for AMD and Intel where it is the same; Intel's are by its manual alone, and were never tried with a guest.",
    [attr.vcpuIndex, attr.exitReason],
  ),
  'sculptor.vcpu.exit.time': counter(
    's',
    'task',
    'From an exit to the next entry, by reason of the exit, without halts and waits in the run queue: handled in KVM or in QEMU.',
    [attr.vcpuIndex, attr.exitReason],
  ),
  'sculptor.vcpu.halts': counter(
    '{halt}',
    'task',
    'How often a vCPU under KVM was halted, since its guest had nothing to do.',
    [attr.vcpuIndex],
  ),
  'sculptor.vcpu.halt.time': counter(
    's',
    'task',
    'Time that a vCPU was halted, with what KVM polled meanwhile; it ends when its thread is woken.',
    [attr.vcpuIndex],
  ),
  'sculptor.vcpu.wakeups': counter(
    '{wakeup}',
    'task',
    'How often a vCPU entered its guest after a halt.',
    [attr.vcpuIndex],
  ),
  'sculptor.vcpu.wakeup.time': counter(
    's',
    'task',
    'Delay of those entries: the wait of its thread in the run queue since it was woken, and from running to the entry. Overlaps with the wait and with the time of its exits.',
    [attr.vcpuIndex],
  ),
});

export const stealMetrics = of('steal', {
  'sculptor.vcpu.steal': counter(
    's',
    'host',
    'Within a guest: time that a vCPU of its own wanted to run and the hypervisor ran others.',
    [attr.vcpuIndex],
  ),
});

export const guestsMetrics = of('guests', {
  'sculptor.vcpu.guest.runqueue.wait': counter(
    's',
    'instance',
    "By what the agent in a VM says: time that its tasks waited for this vCPU, be it for another of its tasks or for the host. What of it was the host's is at most the wait of the thread that runs the vCPU: sculptor.task.runqueue.wait with the same index.",
    [attr.vcpuIndex],
  ),
  'sculptor.vcpu.guest.steal': counter(
    's',
    'instance',
    'By what the agent in a VM says: time that the host kept this vCPU from running. Where the hypervisor tells its guest, the same as the wait of the thread that runs it.',
    [attr.vcpuIndex],
  ),
});
