import type { Loss, ProbeLosses } from '../../contract/metrics/losses.ts';
import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import type { ComesAndGoes } from '../sources/source.ts';
import { type Latencies, latencySlots } from './latency.ts';
import { entriesOf, keysOf, lookUpSums, missedRuns, readStats } from './sums.ts';

/** Latencies of the page faults of one cgroup over all CPUs since the first of them; from exception to handled. */
export type FaultTotals = { readonly minor: Latencies; readonly major: Latencies };

export type FaultKind = keyof FaultTotals;

export type FaultsProbe = ComesAndGoes & {
  /** Totals by cgroup id. They never fall while a key stays. */
  readonly readTotals: () => Map<number, FaultTotals>;
  /**
   * The same, of those of these cgroups that have had a fault since they were read by this last: most have not. `others`: ids of
   * all that are none of these.
   */
  readonly readChanged: (of: { has(cgroupId: number): boolean }) => {
    readonly changed: Map<number, FaultTotals>;
    readonly others: ReadonlySet<number>;
  };
  /** Drops the totals of cgroups that have ended; answers what they came to. */
  readonly forget: (cgroupIds: readonly number[]) => Map<number, FaultTotals>;
  /** Counts on these CPUs from now on: those that came online since, and no longer on those that went. */
  readonly follow: (onlineCpus: readonly number[]) => void;
  /** Why faults were not counted. */
  readonly lost: () => ProbeLosses<'faults'>;
};

/** Field offsets of the structures in bpf/faults.h; a test holds them against its BTF. */
export const layout = {
  totals: { count: 0, sumNs: 8, slots: 16, bytes: 1296 },
  stats: { lostTaskStorage: 0, lostInstanceFull: 8, lostInstanceMemory: 16, bytes: 24 },
} as const;

/** By the same keys: totals on each CPU, and of those instances for which there was no memory on each CPU at the time. */
const maps = ['faults', 'shared_faults'] as const;

/** PERF_COUNT_SW_PAGE_FAULTS_MIN and _MAJ of linux/perf_event.h. */
const softwareEvents = { minor_fault: 5, major_fault: 6 } as const;

/**
 * Loads and attaches bpf/faults.bpf.c. The beginnings first: one whose end is not seen is overwritten by that of the next
 * fault.
 * @throws ProbeError PROBE_LOAD where the kernel has no tracepoint of page faults (other than x86 and RISC-V), and as
 * `loadProbe`; KernelInterfaceError as `loadProbe`
 */
export function startFaultsProbe(options: {
  native: Native;
  cgroupV1: boolean;
  maxInstances: number;
  onlineCpus: readonly number[];
}): FaultsProbe {
  const object = loadProbe(options.native, 'faults', {
    constants: { cgroup_v1: options.cgroupV1 },
    // A key for each kind of fault.
    maxEntries: Object.fromEntries(maps.map(map => [map, options.maxInstances * 2])),
  });
  const follow = (cpus: readonly number[]): void => {
    for (const [program, event] of Object.entries(softwareEvents))
      object.attachSoftwareEvent(program, event, Int32Array.from(cpus));
  };
  attachOrClose(object, 'faults', () => {
    object.attach('page_fault_user');
    object.attach('page_fault_kernel');
    follow(options.onlineCpus);
  });
  const growth = maps.map(() => new Map<number, number>());
  return {
    readTotals: () => sumOf(maps.map(map => decodeFaults(entriesOf(object.readSums(map))))),
    readChanged: of => {
      const read = maps.map(map => entriesOf(object.readSums(map)));
      const changed = new Set<number>();
      const others = new Set<number>();
      for (const [nth, entries] of read.entries())
        entries.forEach((words, key) => {
          const id = Math.floor(key / 2);
          const grown = growthOf(words);
          if (!of.has(id)) others.add(id);
          if (!of.has(id) || growth[nth]?.get(key) === grown) return;
          growth[nth]?.set(key, grown);
          changed.add(id);
        });
      return { changed: sumOf(read.map(map => decodeFaults(map, changed))), others };
    },
    forget: ids => {
      for (const id of ids)
        for (const known of growth) {
          known.delete(id * 2);
          known.delete(id * 2 + 1);
        }
      const keys = ids.flatMap(id => [id * 2, id * 2 + 1]);
      const last = sumOf(maps.map(map => decodeFaults(lookUpSums(object, map, keys))));
      for (const map of maps) object.deleteKeys(map, keysOf(keys));
      return last;
    },
    follow,
    lost: () => readLost(object),
    stop: () => object.close(),
  };
}

/** What grows with each fault: how many there were and how long they took. */
function growthOf(words: Float64Array): number {
  return (words[layout.totals.count / 8] ?? 0) + (words[layout.totals.sumNs / 8] ?? 0);
}

/** Of all cgroups or of some. A key is twice the cgroup's id, and one more for major faults. */
export function decodeFaults(
  entries: ReadonlyMap<number, Float64Array>,
  some: ReadonlySet<number> | null = null,
): Map<number, FaultTotals> {
  const totals = new Map<number, FaultTotals>();
  for (const [key, words] of entries) {
    const id = Math.floor(key / 2);
    if (some && !some.has(id)) continue;
    const kind: FaultKind = key % 2 === 0 ? 'minor' : 'major';
    const found = totals.get(id) ?? { minor: noLatencies(), major: noLatencies() };
    totals.set(id, { ...found, [kind]: latenciesOf(words) });
  }
  return totals;
}

function latenciesOf(words: Float64Array): Latencies {
  const { count, sumNs, slots } = layout.totals;
  return {
    latencyCount: words[count / 8] ?? 0,
    latencySumNs: words[sumNs / 8] ?? 0,
    slots: words.slice(slots / 8, slots / 8 + latencySlots),
  };
}

/** Adds up what several maps hold of a cgroup. */
function sumOf(several: readonly Map<number, FaultTotals>[]): Map<number, FaultTotals> {
  const sums = new Map<number, FaultTotals>();
  for (const [id, totals] of several.flatMap(one => [...one])) {
    const sum = sums.get(id);
    if (!sum) sums.set(id, totals);
    else for (const kind of ['minor', 'major'] as const) addTo(sum[kind], totals[kind]);
  }
  return sums;
}

export function noLatencies(): Latencies {
  return { latencyCount: 0, latencySumNs: 0, slots: new Float64Array(latencySlots) };
}

function addTo(sum: Latencies, more: Latencies): void {
  sum.latencyCount += more.latencyCount;
  sum.latencySumNs += more.latencySumNs;
  for (const [slot, n] of more.slots.entries()) sum.slots[slot] = (sum.slots[slot] ?? 0) + n;
}

function readLost(object: BpfObject): Record<Exclude<Loss<'faults'>, 'unnamed'>, number> {
  const { lostTaskStorage, lostInstanceFull, lostInstanceMemory } = layout.stats;
  const sum = readStats(object);
  return {
    task_storage: sum(lostTaskStorage),
    map_full: sum(lostInstanceFull),
    memory: sum(lostInstanceMemory),
    recursion: missedRuns(object),
  };
}
