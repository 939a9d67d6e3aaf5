import { attachPrograms, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import { nsPerTick } from '../../linux/own-masks.ts';
import { type Latencies, latencySlots, uint64 } from './latency.ts';

/** Totals of one cgroup over all CPUs since it was first seen; ns. */
export type SchedTotals = Latencies & {
  runNs: number;
  waitNs: number;
  throttledNs: number;
  migrations: number;
};

/** One task whose totals have changed since they were last read; ns since the probe first saw it. */
export type TaskTotals = {
  readonly cgroupId: number;
  readonly tid: number;
  readonly tgid: number;
  readonly startTicks: number;
  readonly name: string;
  readonly runNs: number;
  readonly waitNs: number;
  readonly throttledNs: number;
  readonly migrations: number;
};

/** Why an event was not, or not wholly, charged. */
export type LostReason =
  /** No memory for the state of a task: the event is not charged at all. */
  | 'task_storage'
  /** The map of instances is full: charged to the task, not to its instance. */
  | 'instance_map_full'
  /** No memory for one more instance: likewise. */
  | 'instance_memory'
  /** A switch that the kernel did not show: what the task did up to the next one is not charged. */
  | 'unseen_switch'
  /** The program was interrupted by an event of its own kind. */
  | 'recursion';

/** Since the probe was started; `entries` as of the last `readTotals`. */
export type ProbeCounters = {
  readonly events: number;
  readonly lost: Readonly<Record<LostReason, number>>;
  readonly entries: number;
  readonly memoryBytes: number;
};

export type SchedProbe = {
  /** Charges what is open up to now, then reads all: cgroup id → totals. Totals never fall while a key stays. */
  readonly readTotals: () => Map<number, SchedTotals>;
  /** Tasks whose totals have changed since they were last read, as of the last `readTotals`. */
  readonly readTasks: () => TaskTotals[];
  /** Drops the totals of cgroups that have ended. */
  readonly forget: (cgroupIds: readonly number[]) => void;
  readonly counters: () => ProbeCounters;
  readonly stop: () => void;
};

/** Field offsets of the structures in bpf/sched.h; a test holds them against its BTF. */
export const layout = {
  totals: {
    runNs: 0,
    waitNs: 8,
    throttledNs: 16,
    migrations: 24,
    latencyCount: 32,
    latencySumNs: 40,
    slots: 48,
    bytes: 1328,
  },
  record: {
    cgroupId: 0,
    startNs: 8,
    runNs: 16,
    waitNs: 24,
    throttledNs: 32,
    migrations: 40,
    tid: 48,
    tgid: 52,
    comm: 56,
    bytes: 72,
  },
  stats: {
    events: 0,
    lostTaskStorage: 8,
    lostInstanceFull: 16,
    lostInstanceMemory: 24,
    lostSwitch: 32,
    bytes: 40,
  },
} as const;

/**
 * In the order they are attached. The switch first: a wake-up that is seen before switches are leaves a stamp that the
 * unseen switches do not end, and all of a later sleep is then charged (seconds, when this process is kept waiting between).
 */
const programs = [
  'sched_switch',
  'sched_wakeup',
  'sched_wakeup_new',
  'sched_migrate_task',
] as const;

/**
 * Loads and attaches bpf/sched.bpf.c. Cgroup ids are inode numbers of cgroup directories: below 2^53 by far.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function startSchedProbe(options: {
  native: Native;
  cgroupV1: boolean;
  maxInstances: number;
}): SchedProbe {
  const object = loadProbe(options.native, 'sched', {
    constants: { cgroup_v1: options.cgroupV1 },
    maxEntries: { instances: options.maxInstances },
  });
  attachPrograms(object, 'sched', programs);
  // The first pass takes up the tasks that were there before the hooks.
  object.iterate('flush');
  let entries = 0;
  return {
    readTotals: () => {
      object.iterate('flush');
      const totals = decodeTotals(object.readMap('instances'));
      entries = totals.size;
      return totals;
    },
    readTasks: () => decodeTasks(object.iterate('dump')),
    forget: ids => {
      const keys = Buffer.alloc(ids.length * 8);
      for (const [i, id] of ids.entries()) keys.writeBigUInt64LE(BigInt(id), i * 8);
      object.deleteKeys('instances', keys);
    },
    counters: () => readCounters(object, entries),
    stop: () => object.close(),
  };
}

/** Sums the values of all CPUs. */
export function decodeTotals(map: ReturnType<BpfObject['readMap']>): Map<number, SchedTotals> {
  const { keys, values, cpus, count, valueSize } = map;
  const totals = new Map<number, SchedTotals>();
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
  for (let entry = 0; entry < count; entry += 1) {
    const sum: SchedTotals = {
      runNs: 0,
      waitNs: 0,
      throttledNs: 0,
      migrations: 0,
      latencyCount: 0,
      latencySumNs: 0,
      slots: new Float64Array(latencySlots),
    };
    for (let cpu = 0; cpu < cpus; cpu += 1) addTotals(sum, view, (entry * cpus + cpu) * valueSize);
    // A batch may answer an entry twice when the table grows meanwhile: the later one holds.
    totals.set(Number(keys.readBigUInt64LE(entry * 8)), sum);
  }
  return totals;
}

function addTotals(sum: SchedTotals, view: DataView, at: number): void {
  const field = layout.totals;
  sum.runNs += uint64(view, at + field.runNs);
  sum.waitNs += uint64(view, at + field.waitNs);
  sum.throttledNs += uint64(view, at + field.throttledNs);
  sum.migrations += uint64(view, at + field.migrations);
  const latencies = uint64(view, at + field.latencyCount);
  if (latencies === 0) return;
  sum.latencyCount += latencies;
  sum.latencySumNs += uint64(view, at + field.latencySumNs);
  for (let slot = 0; slot < latencySlots; slot += 1) {
    sum.slots[slot] = (sum.slots[slot] ?? 0) + uint64(view, at + field.slots + slot * 8);
  }
}

export function decodeTasks(records: Buffer): TaskTotals[] {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  const field = layout.record;
  const tasks: TaskTotals[] = [];
  for (let at = 0; at + field.bytes <= records.length; at += field.bytes) {
    const end = records.indexOf(0, at + field.comm);
    tasks.push({
      cgroupId: uint64(view, at + field.cgroupId),
      tid: view.getUint32(at + field.tid, true),
      tgid: view.getUint32(at + field.tgid, true),
      startTicks: Math.floor(uint64(view, at + field.startNs) / nsPerTick),
      name: records.toString(
        'utf8',
        at + field.comm,
        Math.min(end < 0 ? at + field.bytes : end, at + field.bytes),
      ),
      runNs: uint64(view, at + field.runNs),
      waitNs: uint64(view, at + field.waitNs),
      throttledNs: uint64(view, at + field.throttledNs),
      migrations: uint64(view, at + field.migrations),
    });
  }
  return tasks;
}

function readCounters(object: BpfObject, entries: number): ProbeCounters {
  const { events, lostTaskStorage, lostInstanceFull, lostInstanceMemory, lostSwitch, bytes } =
    layout.stats;
  // One entry of an array, key 0: the values of all CPUs.
  const values = object.lookup('stats', Buffer.alloc(4)) ?? Buffer.alloc(0);
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
  const sum = (field: number): number => {
    let total = 0;
    for (let at = field; at < values.length; at += bytes) total += uint64(view, at);
    return total;
  };
  return {
    events: sum(events),
    lost: {
      task_storage: sum(lostTaskStorage),
      instance_map_full: sum(lostInstanceFull),
      instance_memory: sum(lostInstanceMemory),
      unseen_switch: sum(lostSwitch),
      recursion: Object.values(object.programStats()).reduce((n, { missed }) => n + missed, 0),
    },
    entries,
    memoryBytes: object.memoryBytes(),
  };
}
