import type { MapSums, MapWord } from '../../linux/native.ts';
import { nsPerTick } from '../../linux/own-masks.ts';
import type { Counters, PairWaits } from '../sources/counters.ts';
import { type Latencies, latencySlots, uint64, viewOf } from './latency.ts';

/** What is read of each cgroup every time: totals over all CPUs since it was first seen; ns. */
export type SchedTotals = { runNs: number; waitNs: number; throttledNs: number };

/** Why a task was off its CPU and not runnable, in the order of `enum blocked_reason`. */
export const blockedReasons = ['io', 'uninterruptible', 'lock', 'sleep'] as const;

/** A task whose totals have changed since they were last read. Of thousands, most are asked for nothing else. */
export type ChangedTask = Pick<TaskTotals, 'tid' | 'startTicks'> & {
  /** What it ran, waited and was throttled since it was told last, however long ago. */
  readonly grownNs: number;
  /** Where it ran last. */
  readonly cpu: number;
  /** Stands for its name: another one when the name is another, but for one in 2^32. */
  readonly nameHash: number;
  readonly totals: () => TaskTotals;
};

/** What the choice of the hottest looks at. */
export type RankedTask = Pick<ChangedTask, 'tid' | 'startTicks' | 'grownNs'> & {
  /** Null: it has ended since, and is not known any more. */
  readonly totals: () => TaskTotals | null;
};

/** What one task did; ns since the probe first saw it. */
export type TaskTotals = {
  readonly cgroupId: number;
  readonly tid: number;
  readonly tgid: number;
  readonly startTicks: number;
  readonly name: string;
  readonly runNs: number;
  readonly waitNs: number;
  readonly throttledNs: number;
  /** By `blockedReasons`. */
  readonly blockedNs: readonly number[];
  readonly voluntarySwitches: number;
  readonly involuntarySwitches: number;
  readonly migrations: number;
  readonly nodeMigrations: number;
};

/** Field offsets of the structures in bpf/sched.h; a test holds them against its BTF. */
export const layout = {
  totals: {
    runNs: 0,
    waitNs: 8,
    throttledNs: 16,
    blockedNs: 24,
    voluntarySwitches: 56,
    involuntarySwitches: 64,
    wakeups: 72,
    migrations: 80,
    nodeMigrations: 88,
    userNs: 96,
    kernelNs: 104,
    latencyCount: 112,
    latencySumNs: 120,
    slots: 128,
    /** From here on it is what the probe alone uses: no counter of anything. */
    sleepers: 1408,
    sleptNs: 1440,
    bytes: 1472,
  },
  record: {
    cgroupId: 0,
    startNs: 8,
    runNs: 16,
    waitNs: 24,
    throttledNs: 32,
    blockedNs: 40,
    voluntarySwitches: 72,
    involuntarySwitches: 80,
    migrations: 88,
    nodeMigrations: 96,
    grownNs: 104,
    cpu: 112,
    tid: 120,
    tgid: 124,
    comm: 128,
    bytes: 144,
  },
  sums: { id: 0, runNs: 8, waitNs: 16, throttledNs: 24, bytes: 32 },
  pair: { waiter: 0, preemptor: 8, bytes: 16 },
  stats: {
    events: 0,
    lostTaskStorage: 8,
    lostInstanceFull: 16,
    lostInstanceMemory: 24,
    recovered: 32,
    lostSwitch: 40,
    lostWithheldSwitch: 48,
    lostPair: 56,
    waitNs: 64,
    tgid: 72,
    clockOffset: 80,
    comparedNs: 88,
    bytes: 96,
  },
} as const;

/** How many words of `struct instance_totals` count something: a `Counters` of a cgroup is these, summed over all CPUs. */
export const counterWords = layout.totals.sleepers / 8;

/** One field of `Counters`; of `blockedNs`, the one of the nth reason. */
export function word(
  counters: Counters,
  field: Exclude<keyof typeof layout.totals, 'bytes' | 'slots' | 'sleepers' | 'sleptNs'>,
  nth = 0,
): number {
  return counters[layout.totals[field] / 8 + nth] ?? 0;
}

/** The histogram of run-queue latencies in `Counters`. */
export function latenciesOf(counters: Counters): Latencies {
  const first = layout.totals.slots / 8;
  return {
    latencyCount: word(counters, 'latencyCount'),
    latencySumNs: word(counters, 'latencySumNs'),
    slots: counters.subarray(first, first + latencySlots),
  };
}

/** Of totals that were not among those read. */
const notMet = -1;

/**
 * The first `count` of what `read_totals` wrote: of each cgroup, over all CPUs; those of one id are added up. `into` has them then
 * and nothing else; what it had of a cgroup is written over.
 */
export function decodeTotals(
  records: Buffer,
  count: number,
  into = new Map<number, SchedTotals>(),
): Map<number, SchedTotals> {
  const view = viewOf(records);
  const { id, runNs, waitNs, throttledNs, bytes } = layout.sums;
  into.forEach(totals => {
    totals.runNs = notMet;
  });
  let met = 0;
  for (let at = 0; at < count * bytes; at += bytes) {
    const key = uint64(view, at + id);
    let totals = into.get(key);
    if (!totals) {
      totals = { runNs: notMet, waitNs: 0, throttledNs: 0 };
      into.set(key, totals);
    }
    if (totals.runNs === notMet) {
      totals.runNs = 0;
      totals.waitNs = 0;
      totals.throttledNs = 0;
      met += 1;
    }
    totals.runNs += uint64(view, at + runNs);
    totals.waitNs += uint64(view, at + waitNs);
    totals.throttledNs += uint64(view, at + throttledNs);
  }
  if (into.size === met) return into;
  for (const [known, totals] of into) if (totals.runNs === notMet) into.delete(known);
  return into;
}

/** What is counted of each cgroup, in whichever of several maps. */
export function countersOf(
  maps: readonly ReadonlyMap<number, Float64Array>[],
): Map<number, Counters> {
  const counters = new Map<number, Counters>();
  for (const map of maps)
    map.forEach((words, id) => {
      const more = words.subarray(0, counterWords);
      counters.set(id, counters.get(id)?.map((value, i) => value + (more[i] ?? 0)) ?? more);
    });
  return counters;
}

/** What was waited for whom. */
export function decodePairs(maps: readonly MapSums[]): PairWaits {
  const { waiter, preemptor, bytes } = layout.pair;
  return {
    forEach: take => {
      for (const { keys, sums, count, width } of maps) {
        const view = viewOf(keys);
        for (let entry = 0; entry < count; entry += 1) {
          const at = entry * bytes;
          take(uint64(view, at + waiter), uint64(view, at + preemptor), sums[entry * width] ?? 0);
        }
      }
    },
  };
}

/** `[cpu]` ns that each cgroup ran there. */
export function decodeRunByCpu({ keys, words, cpus, count }: MapWord): Map<number, Float64Array> {
  const view = viewOf(keys);
  const byCpu = new Map<number, Float64Array>();
  // A batch may answer an entry twice when the table grows meanwhile: the later one holds.
  for (let entry = 0; entry < count; entry += 1)
    byCpu.set(uint64(view, entry * 8), words.subarray(entry * cpus, (entry + 1) * cpus));
  return byCpu;
}

export function decodeTasks(records: Buffer): ChangedTask[] {
  const view = viewOf(records);
  const tasks: ChangedTask[] = [];
  for (let at = 0; at + layout.record.bytes <= records.length; at += layout.record.bytes)
    tasks.push(new RecordedTask(records, view, at));
  return tasks;
}

/** Nothing is decoded before it is asked for: there are thousands of them. */
class RecordedTask implements ChangedTask {
  readonly #records: Buffer;
  readonly #view: DataView;
  readonly #at: number;

  constructor(records: Buffer, view: DataView, at: number) {
    this.#records = records;
    this.#view = view;
    this.#at = at;
  }

  get tid(): number {
    return this.#view.getUint32(this.#at + layout.record.tid, true);
  }

  get startTicks(): number {
    return Math.floor(uint64(this.#view, this.#at + layout.record.startNs) / nsPerTick);
  }

  get grownNs(): number {
    return uint64(this.#view, this.#at + layout.record.grownNs);
  }

  get cpu(): number {
    return uint64(this.#view, this.#at + layout.record.cpu);
  }

  get nameHash(): number {
    const { comm, bytes } = layout.record;
    let hash = 0;
    for (let at = comm; at < bytes; at += 4)
      hash = Math.imul(hash ^ this.#view.getInt32(this.#at + at, true), 0x9e3779b1);
    return hash;
  }

  totals(): TaskTotals {
    return decodeTask(this.#records, this.#view, this.#at);
  }
}

function decodeTask(records: Buffer, view: DataView, at: number): TaskTotals {
  const field = layout.record;
  const end = records.indexOf(0, at + field.comm);
  return {
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
    blockedNs: blockedReasons.map((_, i) => uint64(view, at + field.blockedNs + i * 8)),
    voluntarySwitches: uint64(view, at + field.voluntarySwitches),
    involuntarySwitches: uint64(view, at + field.involuntarySwitches),
    migrations: uint64(view, at + field.migrations),
    nodeMigrations: uint64(view, at + field.nodeMigrations),
  };
}
