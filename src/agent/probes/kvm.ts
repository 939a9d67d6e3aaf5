import { existsSync, readdirSync } from 'node:fs';
import { KernelInterfaceError } from '../../contract/errors.ts';
import type { Loss, ProbeLosses } from '../../contract/metrics/losses.ts';
import { ownLacking } from '../../linux/capabilities.ts';
import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import { nsPerTick } from '../../linux/own-masks.ts';
import type { Roots } from '../../linux/roots.ts';
import type { ComesAndGoes } from '../sources/source.ts';
import { uint64, viewOf } from './latency.ts';
import { missedRuns, readStats } from './sums.ts';

/** What KVM counted of one vCPU thread since its first exit that was seen. */
export type VcpuTotals = {
  readonly cgroupId: number;
  readonly tid: number;
  readonly tgid: number;
  readonly startTicks: number;
  /** The order in which KVM made it; by bpftrace, the number that it was made with. */
  readonly index: number;
  readonly isa: Isa;
  readonly haltNs: number;
  readonly halts: number;
  readonly wakeupNs: number;
  readonly wakeups: number;
  /** By slot (bpf/kvm.h), without those that never happened. */
  readonly exits: ReadonlyMap<number, { readonly count: number; readonly handledNs: number }>;
};

export type Isa = 'vmx' | 'svm';

export type KvmProbe = ComesAndGoes & {
  /** Every vCPU thread that left its guest since the probe was started, and still lives. Totals of a thread never fall. */
  readonly read: () => VcpuTotals[];
  readonly lost: () => ProbeLosses<'kvm'>;
};

/** Offsets and sizes of the structures in bpf/kvm.h; a test holds them against its BTF. */
export const layout = {
  record: { cgroupId: 0, startNs: 8, tid: 16, tgid: 20, index: 24, isa: 28, bytes: 32 },
  totals: { haltNs: 0, halts: 8, wakeupNs: 16, wakeups: 24, exits: 32, bytes: 2848 },
  exit: { count: 0, handledNs: 8, bytes: 16 },
} as const;

/** Entries first: an exit whose entry is not seen would last until the next one. */
const programs = ['kvm_entry', 'kvm_vcpu_wakeup', 'kvm_userspace_exit', 'kvm_exit'] as const;

/**
 * Loads and attaches bpf/kvm.bpf.c. While it is attached KVM's modules cannot be removed.
 * @throws KernelInterfaceError KERNEL_MISSING where KVM is not loaded (yet), or by modules that are not known; KERNEL_PRIVILEGE; as `loadProbe`
 * @throws ProbeError as `loadProbe`
 */
export function startKvmProbe(options: {
  native: Native;
  roots: Roots;
  cgroupV1: boolean;
}): KvmProbe {
  mustHaveKvm(options.roots.sys);
  // Without it the kernel refuses only once all is prepared, and in no words; whoever tries again and again had better ask.
  const absent = ownLacking(options.roots, ['CAP_SYS_ADMIN']);
  if (absent.length > 0)
    throw new KernelInterfaceError(
      'KERNEL_PRIVILEGE',
      "this process has no CAP_SYS_ADMIN, without which the kernel shows nobody the types of KVM's modules; the agent keeps it where a metric of the source kvm is selected and KVM is loaded when it starts",
      { absent },
    );
  const object = loadProbe(options.native, 'kvm', { constants: { cgroup_v1: options.cgroupV1 } });
  attachOrClose(object, 'kvm', () => {
    for (const program of programs) object.attach(program);
  });
  return {
    read: () => decodeVcpus(object.iterate('dump')),
    lost: () => readLost(object),
    stop: () => object.close(),
  };
}

/** Modules by which KVM runs guests, of which is known where they keep why a vCPU left (bpf/include/kvm.bpf.h). */
const knownModules = ['kvm_amd', 'kvm_intel'];

/** Whether KVM of x86 is loaded by a module that is known; `sys`: where sysfs is. */
export function isKvmLoaded(sys: string): boolean {
  return knownModules.some(module => existsSync(`${sys}/module/${module}`));
}

/** @throws KernelInterfaceError KERNEL_MISSING where it is not */
export function mustHaveKvm(sys: string): void {
  if (!isKvmLoaded(sys)) throw noKnownKvm(`${sys}/module`);
}

/** `path`: the folder of the kernel's modules. With another module all of KVM's hooks may be there, and the reason is kept elsewhere. */
function noKnownKvm(path: string): KernelInterfaceError {
  const others = existsSync(path) ? readdirSync(path).filter(name => name.startsWith('kvm_')) : [];
  if (others.length === 0)
    return new KernelInterfaceError(
      'KERNEL_MISSING',
      `KVM is not loaded (neither ${path}/kvm_amd nor ${path}/kvm_intel is there); it is looked for again`,
      { path, remedy: 'modprobe kvm_amd or kvm_intel, where VMs are to run under KVM' },
    );
  return new KernelInterfaceError(
    'KERNEL_MISSING',
    `KVM is there by ${others.map(name => `${path}/${name}`).join(', ')}: where that module keeps why a vCPU left its guest is not known, only where kvm_amd and kvm_intel do; these are looked for again`,
    { path, modules: others },
  );
}

export function decodeVcpus(records: Buffer): VcpuTotals[] {
  const view = viewOf(records);
  const { record, totals } = layout;
  const vcpus: VcpuTotals[] = [];
  const size = record.bytes + totals.bytes;
  for (let at = 0; at + size <= records.length; at += size) {
    const sums = at + record.bytes;
    vcpus.push({
      cgroupId: uint64(view, at + record.cgroupId),
      tid: view.getUint32(at + record.tid, true),
      tgid: view.getUint32(at + record.tgid, true),
      startTicks: Math.floor(uint64(view, at + record.startNs) / nsPerTick),
      index: view.getUint32(at + record.index, true),
      isa: view.getUint32(at + record.isa, true) === 2 ? 'svm' : 'vmx',
      haltNs: uint64(view, sums + totals.haltNs),
      halts: uint64(view, sums + totals.halts),
      wakeupNs: uint64(view, sums + totals.wakeupNs),
      wakeups: uint64(view, sums + totals.wakeups),
      exits: decodeExits(view, sums + totals.exits),
    });
  }
  return vcpus;
}

function decodeExits(view: DataView, at: number): VcpuTotals['exits'] {
  const { exit, totals } = layout;
  const exits = new Map<number, { count: number; handledNs: number }>();
  for (let slot = 0; slot < (totals.bytes - totals.exits) / exit.bytes; slot += 1) {
    const count = uint64(view, at + slot * exit.bytes + exit.count);
    const handledNs = uint64(view, at + slot * exit.bytes + exit.handledNs);
    if (count > 0) exits.set(slot, { count, handledNs });
  }
  return exits;
}

function readLost(object: BpfObject): Record<Loss<'kvm'>, number> {
  return { memory: readStats(object, 'lost_memory')(0), recursion: missedRuns(object) };
}
