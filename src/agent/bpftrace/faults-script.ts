import { type FaultsProbe, type FaultTotals, noLatencies } from '../probes/faults.ts';
import type { Latencies } from '../probes/latency.ts';
import { type ScriptContext, startCountingScript } from './script.ts';

const tracepoints = ['exceptions:page_fault_user', 'exceptions:page_fault_kernel'] as const;

const file = 'bpf/faults.bt';

/** Of the root, and of a task of an autogroup, which has no cgroup; the root is where it is. */
const [rootId, autogroupId] = [1, 0];

/**
 * Page faults as bpf/faults.bt tells them, in the shape of the libbpf probe. bpftrace counts on the CPUs that are online when it
 * begins: for one that comes later it is begun again.
 * @throws KernelInterfaceError KERNEL_MISSING where the kernel has no tracepoint of page faults (other than x86 and RISC-V)
 */
export function startFaultsScript(
  context: ScriptContext,
  onlineCpus: readonly number[],
): FaultsProbe {
  const script = startCountingScript(context, {
    file,
    maps: ['sum', 'latency'],
    tracepoints,
  });
  const read = () => decodeFaultSums(script.sums('sum'), script.sums('latency'));
  const growth = new Map<number, number>();
  let followed = new Set(onlineCpus);
  return {
    readTotals: read,
    readChanged: of => {
      const changed = new Map<number, FaultTotals>();
      const others = new Set<number>();
      for (const [id, totals] of read()) {
        const grown = growthOf(totals);
        if (!of.has(id)) others.add(id);
        if (!of.has(id) || growth.get(id) === grown) continue;
        growth.set(id, grown);
        changed.set(id, totals);
      }
      return { changed, others };
    },
    forget: ids => {
      const all = read();
      for (const id of ids) growth.delete(id);
      script.drop(ids.flatMap(id => (id === rootId ? [rootId, autogroupId] : [id])).map(String));
      return new Map(
        ids.flatMap(id => {
          const last = all.get(id);
          return last ? [[id, last] as const] : [];
        }),
      );
    },
    follow: cpus => {
      const hasCome = cpus.some(cpu => !followed.has(cpu));
      followed = new Set(cpus);
      if (!hasCome) return;
      context.say('info', `agent: ${file} is begun again, since another CPU is online`);
      script.renew();
    },
    lost: script.losses,
    trouble: script.trouble,
    attached: script.attached,
    stop: script.stop,
  };
}

/**
 * By cgroup: `sums` has ns by "cgroup,kind", `counts` how many by "cgroup,kind,slot", where kind is 1 for major faults. They are printed
 * one after another, so the sum may lack the last faults that are counted, until the next time.
 */
export function decodeFaultSums(
  sums: ReadonlyMap<string, number>,
  counts: ReadonlyMap<string, number>,
): Map<number, FaultTotals> {
  const all = new Map<number, FaultTotals>();
  const latenciesOf = (key: string): { latencies: Latencies; slot: number } => {
    const [id = autogroupId, kind = 0, slot = 0] = key.split(',').map(Number);
    const of = id === autogroupId ? rootId : id;
    const totals = all.get(of) ?? { minor: noLatencies(), major: noLatencies() };
    all.set(of, totals);
    return { latencies: kind === 1 ? totals.major : totals.minor, slot };
  };
  for (const [key, ns] of sums) latenciesOf(key).latencies.latencySumNs += ns;
  for (const [key, count] of counts) {
    const { latencies, slot } = latenciesOf(key);
    latencies.latencyCount += count;
    latencies.slots[slot] = (latencies.slots[slot] ?? 0) + count;
  }
  return all;
}

/** What grows with each fault: how many there were and how long they took. */
function growthOf({ minor, major }: FaultTotals): number {
  return minor.latencyCount + minor.latencySumNs + major.latencyCount + major.latencySumNs;
}
