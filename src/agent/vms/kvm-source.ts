import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import type { PointAttributes, Sample } from '../../otlp/sample.ts';
import { startKvmScript } from '../bpftrace/kvm-script.ts';
import { scriptContextOf } from '../bpftrace/script.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { isKvmLoaded, startKvmProbe, type VcpuTotals } from '../probes/kvm.ts';
import { exitReason } from '../probes/kvm-exits.ts';
import type { SourceKind } from '../sources/source.ts';
import { createTaskStarts } from '../tasks/task-starts.ts';

/** Why vCPUs leave their guests, and what becomes of them until they are back: from the kernel by bpf/kvm.bpf.c or bpf/kvm.bt. */
export const kvmSource: SourceKind = {
  name: 'kvm',
  tells: 'exits, halts and wake-up delays of vCPUs under KVM',
  needs: bpfCapabilities,
  // The kernel hands out the types of its modules, which KVM's tracepoints have, for no less (BPF_BTF_GET_FD_BY_ID). Kept
  // only where KVM is loaded when the agent starts.
  gains: (_, sys) => (isKvmLoaded(sys) ? ['CAP_SYS_ADMIN'] : []),
  comesLater: true,
  neededAnyway: ({ vcpus }) => vcpus.untold() > 0,
  start: context => {
    const { native, roots, layout, vcpus, clock } = context;
    const bpftrace = scriptContextOf(context);
    const probe = bpftrace
      ? startKvmScript(bpftrace)
      : startKvmProbe({ native, roots, cgroupV1: layout.version === 1 });
    const began = clock.unixSeconds();
    const starts = createTaskStarts(roots, () => began);
    let told = new Map<LivingInstance, Sample[]>();
    return {
      name: 'kvm',
      read: living => {
        const lives = new Map(
          living.flatMap(one => [...one.members.keys()].map(id => [id, one] as const)),
        );
        const found = new Map<LivingInstance, VcpuTotals[]>();
        for (const totals of probe.read()) {
          const one = lives.get(totals.cgroupId);
          if (one) found.set(one, [...(found.get(one) ?? []), totals]);
        }
        told = new Map();
        starts.look();
        for (const [one, all] of found) {
          const [first] = all;
          if (first) vcpus.learn(one, first.tgid, new Map(all.map(each => [each.tid, each.index])));
          const indexes = vcpus.of(one);
          const samples = all.flatMap(each =>
            vcpuSamples(each, indexes.get(each.tid) ?? each.index, starts.of(each.startTicks)),
          );
          told.set(one, samples);
        }
      },
      samples: living => told.get(living) ?? [],
      host: () => [],
      lost: probe.lost,
      forget: () => undefined,
      trouble: probe.trouble,
      attached: probe.attached,
      stop: probe.stop,
    };
  },
};

/** `index`: as QEMU counts its vCPUs, which may differ from the order in which KVM was asked for them. */
export function vcpuSamples(totals: VcpuTotals, index: number, start: number): Sample[] {
  const attributes = Object.freeze({
    [attr.threadId]: totals.tid,
    [attr.processId]: totals.tgid,
    [attr.taskStartTicks]: totals.startTicks,
    [attr.vcpuIndex]: index,
  });
  const series = (metric: Sample['metric'], value: number, reason?: string): Sample => ({
    metric,
    attributes,
    ...(reason === undefined ? {} : { more: reasonAttributes(reason) }),
    task: `${totals.tid}@${totals.startTicks}`,
    start,
    value,
  });
  const byReason = new Map<string, { count: number; handledNs: number }>();
  for (const [slot, { count, handledNs }] of totals.exits) {
    const reason = exitReason(totals.isa, slot);
    const sum = byReason.get(reason) ?? { count: 0, handledNs: 0 };
    byReason.set(reason, { count: sum.count + count, handledNs: sum.handledNs + handledNs });
  }
  return [
    ...[...byReason].flatMap(([reason, { count, handledNs }]) => [
      series('sculptor.vcpu.exits', count, reason),
      series('sculptor.vcpu.exit.time', handledNs / 1e9, reason),
    ]),
    series('sculptor.vcpu.halts', totals.halts),
    series('sculptor.vcpu.halt.time', totals.haltNs / 1e9),
    series('sculptor.vcpu.wakeups', totals.wakeups),
    series('sculptor.vcpu.wakeup.time', totals.wakeupNs / 1e9),
  ];
}

/** By reason, of which there are as many as the processor has exits. */
const reasons = new Map<string, PointAttributes>();

function reasonAttributes(reason: string): PointAttributes {
  const known = reasons.get(reason);
  if (known) return known;
  const attributes = Object.freeze({ [attr.exitReason]: reason });
  reasons.set(reason, attributes);
  return attributes;
}
