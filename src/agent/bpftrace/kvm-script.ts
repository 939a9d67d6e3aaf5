import { readTaskStat } from '../../linux/procfs.ts';
import { type KvmProbe, mustHaveKvm, type VcpuTotals } from '../probes/kvm.ts';
import { type CountingScript, type ScriptContext, startCountingScript } from './script.ts';

const tracepoints = [
  'kvm:kvm_exit',
  'kvm:kvm_entry',
  'kvm:kvm_vcpu_wakeup',
  'kvm:kvm_userspace_exit',
] as const;

const maps = ['exits', 'handled', 'halted', 'halts', 'late', 'wakeups'] as const;

type Sums = (map: (typeof maps)[number]) => ReadonlyMap<string, number>;

/**
 * vCPUs as bpf/kvm.bt tells them, in the shape of the libbpf probe. `index` is the number that the program which runs the machine gave
 * the vCPU, of QEMU the APIC's id: the order of its vCPUs, with gaps where cores or threads are no power of two.
 * @throws KernelInterfaceError KERNEL_MISSING where KVM is not loaded (yet), by modules that are not known, or without its tracepoints
 */
export function startKvmScript(context: ScriptContext): KvmProbe {
  const { roots } = context;
  mustHaveKvm(roots.sys);
  const script = startCountingScript(context, { file: 'bpf/kvm.bt', maps, tracepoints });
  const places = createPlaces();
  return {
    read: () => {
      const vcpus = decodeVcpuSums(script.sums, places);
      const isAlive = ({ tid, startTicks }: VcpuTotals) =>
        readTaskStat(roots, tid)?.startTicks === startTicks;
      const living = vcpus.filter(isAlive);
      drop(script, places, new Set(vcpus.filter(each => !living.includes(each))));
      return living;
    },
    lost: script.losses,
    trouble: script.trouble,
    attached: script.attached,
    stop: script.stop,
  };
}

function drop(script: CountingScript, places: Places, ended: ReadonlySet<VcpuTotals>): void {
  if (ended.size === 0) return;
  const threads = [...ended].map(({ tgid, tid, startTicks }) => `${tgid},${tid},${startTicks}`);
  script.drop(threads);
  for (const thread of threads) places.forget(thread);
}

/** Where the exits of a thread are counted: its cgroup, the vCPU's number, and KVM_ISA_…. */
type Place = { readonly cgroupId: number; readonly index: number; readonly isa: number };

export type Places = {
  /** The place at which a thread has exited since it was asked for last, or else where it was: one may be moved. */
  readonly of: (thread: string, counts: ReadonlyMap<string, number>) => Place;
  readonly forget: (thread: string) => void;
};

/** Counts by "cgroup,vCPU,isa". */
export function createPlaces(): Places {
  const known = new Map<string, { place: string; counts: ReadonlyMap<string, number> }>();
  return {
    of: (thread, counts) => {
      const before = known.get(thread);
      const grown = (place: string) => (counts.get(place) ?? 0) - (before?.counts.get(place) ?? 0);
      let most = before?.place ?? '';
      for (const place of counts.keys()) if (grown(place) > grown(most)) most = place;
      known.set(thread, { place: most, counts });
      const [cgroupId = 0, index = 0, isa = 0] = most.split(',').map(Number);
      // A task of an autogroup has no cgroup: it is the root's.
      return { cgroupId: cgroupId || 1, index, isa };
    },
    forget: thread => void known.delete(thread),
  };
}

/** All threads that are in the maps of bpf/kvm.bt. */
export function decodeVcpuSums(sums: Sums, places: Places): VcpuTotals[] {
  const threads = new Map<
    string,
    { counts: Map<string, number>; exits: Map<number, { count: number; handledNs: number }> }
  >();
  const handled = sums('handled');
  for (const [key, count] of sums('exits')) {
    const parts = key.split(',');
    const [thread, place, slot] = [
      parts.slice(0, 3).join(','),
      parts.slice(3, 6).join(','),
      Number(parts[6]),
    ];
    const { counts, exits } = threads.get(thread) ?? { counts: new Map(), exits: new Map() };
    threads.set(thread, { counts, exits });
    counts.set(place, (counts.get(place) ?? 0) + count);
    const all = (exits.get(slot)?.count ?? 0) + count;
    exits.set(slot, { count: all, handledNs: handled.get(`${thread},${slot}`) ?? 0 });
  }
  const [halted, halts, late, wakeups] = (['halted', 'halts', 'late', 'wakeups'] as const).map(
    sums,
  );
  return [...threads].map(([thread, { counts, exits }]) => {
    const [tgid = 0, tid = 0, startTicks = 0] = thread.split(',').map(Number);
    const { cgroupId, index, isa } = places.of(thread, counts);
    return {
      ...{ cgroupId, tid, tgid, startTicks, index },
      isa: isa === 2 ? 'svm' : 'vmx',
      haltNs: halted?.get(thread) ?? 0,
      halts: halts?.get(thread) ?? 0,
      wakeupNs: late?.get(thread) ?? 0,
      wakeups: wakeups?.get(thread) ?? 0,
      exits,
    };
  });
}
