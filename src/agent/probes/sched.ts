import type { Loss } from '../../contract/metrics/losses.ts';
import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import type { Counters, PairWaits } from '../sources/counters.ts';
import { uint64, viewOf } from './latency.ts';
import {
  type ChangedTask,
  countersOf,
  decodePairs,
  decodeRunByCpu,
  decodeTasks,
  decodeTotals,
  layout,
  type SchedTotals,
} from './sched-layout.ts';
import { entriesOf, keysOf, lookUpSums, missedRuns, readStats } from './sums.ts';

/** Why an event was not, or not wholly, charged. */
export type LostReason = Loss<'scheduler'>;

/** Since the probe was started; `entries` as of the last `readTotals`. */
export type ProbeCounters = {
  /** Null where they are not counted. */
  readonly events: number | null;
  /** Switches and wake-ups that no program was shown, charged by the scheduler's own account. */
  readonly recovered: number;
  readonly lost: Readonly<Record<LostReason, number>>;
  readonly entries: number;
};

export type SchedProbe = {
  /**
   * Charges what is open up to now, then reads all: cgroup id → totals. Totals never fall while a key stays. `into`: the answer
   * of a reading before, which is written over: five times a second that is garbage worth saving.
   */
  readonly readTotals: (into?: Map<number, SchedTotals>) => Map<number, SchedTotals>;
  /** The same of everything, sleeps and the kernel's tick accounts too; and the tasks whose totals have changed since. */
  readonly readDetails: () => {
    instances: Map<number, Counters>;
    pairs: PairWaits;
    tasks: ChangedTask[];
  };
  /** For whom all that wait have waited since pairs were last read, by this or with the details. */
  readonly takePairs: () => PairWaits;
  /** The counters of these cgroups up to now; of those that have some. */
  readonly detailsOf: (cgroupIds: readonly number[]) => Map<number, Counters>;
  /** ns that each cgroup has run on each CPU, but for what is kept of all CPUs together: cgroup id → `[cpu]`. */
  readonly readRunByCpu: () => Map<number, Float64Array>;
  /** ns that tasks have waited for each of these CPUs since the probe was started. */
  readonly readWaitByCpu: (cpus: readonly number[]) => number[];
  /** Drops the totals of cgroups that have ended. */
  readonly forget: (cgroupIds: readonly number[]) => void;
  readonly counters: () => ProbeCounters;
  readonly stop: () => void;
};

/** The totals of the instances, by whichever driver. */
export type TotalsReader = Pick<SchedProbe, 'readTotals' | 'forget'> & {
  readonly counters: () => Omit<ProbeCounters, 'lost'> & {
    readonly lost: Readonly<Record<string, number>>;
  };
};

/** `node_of_cpu` of bpf/include/totals.bpf.h. */
export function nodesOf(nodeOfCpu: readonly number[]): Buffer {
  return Buffer.from(Uint16Array.from(nodeOfCpu.slice(0, mostCpus)).buffer);
}

/** Totals by cgroup: on each CPU, and those for which there was no memory on each CPU at the time. */
export const totalsMaps = ['instances', 'shared_instances'] as const;
/** Waits by who waited and for whom, and those for which there was no room there. */
const pairMaps = ['pairs', 'other_pairs'] as const;
/** Entries of shared totals, as bpf/include/totals.bpf.h has them. */
export const mostShared = 512;

/**
 * A hook that makes an entry by CPU writes a word for each CPU that there may be, with the run queue locked: of more than so many
 * they share one.
 */
const mostCpusOfPairs = 64;

/** MOST_CPUS of bpf/include/totals.bpf.h. */
const mostCpus = 8192;

/** So often all tasks are looked at, unless told. */
const wholeLookSeconds = 60;

/**
 * In the order they are attached. The switch first: a wake-up that is seen before switches are leaves a stamp that the
 * unseen switches do not end, and all of a later sleep is then charged (seconds, when this process is kept waiting between).
 */
export const schedPrograms = [
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
  /** The memory node of each CPU; those past the end are of node 0. */
  nodeOfCpu: readonly number[];
  /** CPUs that there may be, also such as are not there yet: maps by CPU have a value for each. */
  possibleCpus: number;
  /**
   * A reading of details looks at all tasks when the last that did is so old, else at those that were awake since: a sleeper
   * that was moved to another cgroup is counted there from then on.
   */
  wholeLookSeconds?: number;
}): SchedProbe {
  const object = loadProbe(options.native, 'sched', {
    constants: { cgroup_v1: options.cgroupV1, node_of_cpu: nodesOf(options.nodeOfCpu) },
    maxEntries: {
      instances: options.maxInstances,
      sums: options.maxInstances + mostShared,
      other_pairs: options.maxInstances,
    },
    plainHashes: options.possibleCpus > mostCpusOfPairs ? ['pairs'] : [],
  });
  let sums: Buffer = Buffer.alloc(0);
  let changed: Buffer = Buffer.alloc(0);
  let findsTasks = false;
  attachOrClose(object, 'sched', () => {
    sums = object.mapMemory('sums');
    changed = object.mapMemory('changed');
    object.iterate('baseline');
    for (const program of schedPrograms) object.attach(program);
    // The first passes take up the tasks that were there before the hooks.
    object.iterate('flush');
    object.iterate('dump');
    findsTasks = object.runOnce('dump_changed').length > 0;
  });
  let entries = 0;
  let wholeLookAt = performance.now();
  const wholeLookMs = (options.wholeLookSeconds ?? wholeLookSeconds) * 1000;
  /** How many sums it wrote. Those that have woken are charged, or, where the kernel cannot find them, all. */
  const charge = (): number => {
    if (!findsTasks) object.iterate('flush');
    return object.runOnce('read_totals').readUInt32LE();
  };
  const takeTasks = (): ChangedTask[] => {
    if (findsTasks && performance.now() - wholeLookAt < wholeLookMs) {
      charge();
      return takeChanged(object, changed);
    }
    wholeLookAt = performance.now();
    return decodeTasks(object.iterate('dump'));
  };
  const takePairs = () => decodePairs(pairMaps.map(map => object.takeSums(map)));
  return {
    readTotals: into => {
      const totals = decodeTotals(sums, charge(), into);
      entries = totals.size;
      return totals;
    },
    readDetails: () => {
      const tasks = takeTasks();
      // After the tasks: who waits is no sleeper then.
      object.runOnce('settle_sleeps');
      const instances = countersOf(totalsMaps.map(map => entriesOf(object.readSums(map))));
      return { instances, pairs: takePairs(), tasks };
    },
    takePairs,
    detailsOf: ids => {
      charge();
      object.runOnce('settle_sleeps');
      return countersOf(totalsMaps.map(map => lookUpSums(object, map, ids)));
    },
    readRunByCpu: () => decodeRunByCpu(object.readWord('instances', layout.totals.runNs / 8)),
    readWaitByCpu: cpus => {
      const view = viewOf(object.lookup('stats', Buffer.alloc(4)) ?? Buffer.alloc(0));
      const { waitNs, bytes } = layout.stats;
      return cpus.map(cpu =>
        cpu < view.byteLength / bytes ? uint64(view, cpu * bytes + waitNs) : 0,
      );
    },
    forget: ids => {
      for (const map of totalsMaps) object.deleteKeys(map, keysOf(ids));
    },
    counters: () => readCounters(object, entries),
    stop: () => object.close(),
  };
}

/** Those that were found awake since they were asked for last, and have done something. */
function takeChanged(object: BpfObject, records: Buffer): ChangedTask[] {
  const { bytes } = layout.record;
  const tasks: ChangedTask[] = [];
  for (;;) {
    const count = object.runOnce('dump_changed').readUInt32LE();
    tasks.push(...decodeTasks(Buffer.from(records.subarray(0, count * bytes))));
    if ((count + 1) * bytes <= records.length) return tasks;
  }
}

function readCounters(object: BpfObject, entries: number): ProbeCounters {
  const {
    events,
    lostTaskStorage,
    lostInstanceFull,
    lostInstanceMemory,
    recovered,
    lostSwitch,
    lostWithheldSwitch,
    lostPair,
  } = layout.stats;
  const sum = readStats(object);
  return {
    events: sum(events),
    recovered: sum(recovered),
    lost: {
      task_storage: sum(lostTaskStorage),
      instance_map_full: sum(lostInstanceFull),
      instance_memory: sum(lostInstanceMemory),
      pair: sum(lostPair),
      unseen_switch: sum(lostSwitch),
      withheld_switch: sum(lostWithheldSwitch),
      recursion: missedRuns(object),
    },
    entries,
  };
}
