import {
  attachOrClose,
  type BpfObject,
  loadProbe,
  type Native,
  type WholeMap,
} from '../../linux/native.ts';
import { type Latencies, latencySlots, uint64 } from './latency.ts';

/** Latencies of the page faults of one cgroup over all CPUs since the first of them; from exception to handled. */
export type FaultTotals = { readonly minor: Latencies; readonly major: Latencies };

export type FaultKind = keyof FaultTotals;

/** Why a fault was not counted. */
export type LostFault =
  /** No memory for the state of its task. */
  | 'task_storage'
  /** The map is full. */
  | 'map_full'
  /** No memory for one more instance. */
  | 'memory'
  /** The program was interrupted by an event of its own kind. */
  | 'recursion';

export type FaultsProbe = {
  /** Totals by cgroup id. They never fall while a key stays. */
  readonly readTotals: () => Map<number, FaultTotals>;
  /** The same, of those of these cgroups that have had a fault since they were read by this last: most have not. */
  readonly readChanged: (of: { has(cgroupId: number): boolean }) => Map<number, FaultTotals>;
  /** Drops the totals of cgroups that have ended; answers what they came to. */
  readonly forget: (cgroupIds: readonly number[]) => Map<number, FaultTotals>;
  /** Counts on these CPUs from now on: those that came online since, and no longer on those that went. */
  readonly follow: (onlineCpus: readonly number[]) => void;
  readonly lost: () => Readonly<Record<LostFault, number>>;
  readonly stop: () => void;
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
    readTotals: () => sumOf(maps.map(map => decodeFaults(object.readMap(map)))),
    readChanged: of => {
      const read = maps.map(map => object.readMap(map));
      const changed = new Set<number>();
      for (const [nth, map] of read.entries())
        for (const [key, grown] of growthOf(map)) {
          const id = Math.floor(key / 2);
          if (!of.has(id) || growth[nth]?.get(key) === grown) continue;
          growth[nth]?.set(key, grown);
          changed.add(id);
        }
      return sumOf(read.map(map => decodeFaults(map, changed)));
    },
    forget: ids => {
      for (const id of ids)
        for (const known of growth) {
          known.delete(id * 2);
          known.delete(id * 2 + 1);
        }
      const keys = Buffer.alloc(ids.length * 16);
      for (const [i, id] of ids.entries()) {
        keys.writeBigUInt64LE(BigInt(id) * 2n, i * 16);
        keys.writeBigUInt64LE(BigInt(id) * 2n + 1n, i * 16 + 8);
      }
      const last = sumOf(maps.map(map => decodeFaults(lookUp(object, map, keys))));
      for (const map of maps) object.deleteKeys(map, keys);
      return last;
    },
    follow,
    lost: () => readLost(object),
    stop: () => object.close(),
  };
}

/** By key, what grows with each fault: how many there were and how long they took, over all CPUs. */
function growthOf({ keys, values, cpus, count, valueSize }: WholeMap): Map<number, number> {
  const growth = new Map<number, number>();
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
  for (let entry = 0; entry < count; entry += 1) {
    const key = Number(keys.readBigUInt64LE(entry * 8));
    let grown = 0;
    for (let cpu = 0; cpu < cpus; cpu += 1) {
      const at = (entry * cpus + cpu) * valueSize;
      grown += uint64(view, at + layout.totals.count) + uint64(view, at + layout.totals.sumNs);
    }
    growth.set(key, grown);
  }
  return growth;
}

/** Sums the values of all CPUs, of all cgroups or of some. A key is twice the cgroup's id, and one more for major faults. */
export function decodeFaults(
  map: WholeMap,
  some: ReadonlySet<number> | null = null,
): Map<number, FaultTotals> {
  const { keys, values, cpus, count, valueSize } = map;
  const totals = new Map<number, FaultTotals>();
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
  for (let entry = 0; entry < count; entry += 1) {
    const key = Number(keys.readBigUInt64LE(entry * 8));
    const id = Math.floor(key / 2);
    if (some && !some.has(id)) continue;
    const latencies = noLatencies();
    for (let cpu = 0; cpu < cpus; cpu += 1)
      addLatencies(latencies, view, (entry * cpus + cpu) * valueSize);
    const kind: FaultKind = key % 2 === 0 ? 'minor' : 'major';
    const found = totals.get(id) ?? { minor: noLatencies(), major: noLatencies() };
    // A batch may answer an entry twice when the table grows meanwhile: the later one holds.
    totals.set(id, { ...found, [kind]: latencies });
  }
  return totals;
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

function lookUp(object: BpfObject, map: (typeof maps)[number], keys: Buffer): WholeMap {
  const found: Buffer[] = [];
  const values: Buffer[] = [];
  for (let at = 0; at < keys.length; at += 8) {
    const key = keys.subarray(at, at + 8);
    const value = object.lookup(map, key);
    if (value === null) continue;
    found.push(key);
    values.push(value);
  }
  const valueSize = layout.totals.bytes;
  return {
    count: found.length,
    cpus: (values[0]?.length ?? 0) / valueSize,
    valueSize,
    keys: Buffer.concat(found),
    values: Buffer.concat(values),
  };
}

function noLatencies(): Latencies {
  return { latencyCount: 0, latencySumNs: 0, slots: new Float64Array(latencySlots) };
}

function addLatencies(sum: Latencies, view: DataView, at: number): void {
  const count = uint64(view, at + layout.totals.count);
  if (count === 0) return;
  sum.latencyCount += count;
  sum.latencySumNs += uint64(view, at + layout.totals.sumNs);
  for (let slot = 0; slot < latencySlots; slot += 1)
    sum.slots[slot] = (sum.slots[slot] ?? 0) + uint64(view, at + layout.totals.slots + slot * 8);
}

function addTo(sum: Latencies, more: Latencies): void {
  sum.latencyCount += more.latencyCount;
  sum.latencySumNs += more.latencySumNs;
  for (const [slot, n] of more.slots.entries()) sum.slots[slot] = (sum.slots[slot] ?? 0) + n;
}

function readLost(object: BpfObject): Record<LostFault, number> {
  const { lostTaskStorage, lostInstanceFull, lostInstanceMemory, bytes } = layout.stats;
  // One entry of an array, key 0: the values of all CPUs.
  const values = object.lookup('stats', Buffer.alloc(4)) ?? Buffer.alloc(0);
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
  const sum = (field: number): number => {
    let total = 0;
    for (let at = field; at < values.length; at += bytes) total += uint64(view, at);
    return total;
  };
  return {
    task_storage: sum(lostTaskStorage),
    map_full: sum(lostInstanceFull),
    memory: sum(lostInstanceMemory),
    recursion: Object.values(object.programStats()).reduce((n, { missed }) => n + missed, 0),
  };
}
