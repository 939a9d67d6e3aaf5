import { ProbeError } from '../../contract/errors.ts';
import type { ExponentialHistogram } from '../../contract/telemetry.ts';
import { emptyTotals } from '../instances/add-change.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { TotalsReader } from '../probes/sched.ts';
import type { SchedTotals } from '../probes/sched-layout.ts';
import type { Counters } from '../sources/counters.ts';
import type { Source } from '../sources/source.ts';
import { createTally } from '../sources/tally.ts';
import { type BpftraceRecord, type Bucket, beat } from './output.ts';
import { type ScriptContext, startScript } from './script.ts';

/** The scheduler as bpf/runqlat.bt tells it: fewer questions than the libbpf probe answers, in the same shape. */
export type SchedDriver = {
  readonly probe: TotalsReader;
  readonly source: Source;
  /** Resolves when no bpftrace is left. */
  readonly stop: () => Promise<void>;
};

export type SchedDriverOptions = ScriptContext & {
  /** How often the histograms are printed, as long as it runs: a run that is begun anew would leave a gap in every total. */
  readonly latencyIntervalSeconds: number;
};

const file = 'bpf/runqlat.bt';

/** Totals are printed so often that a reading each second is a fifth off at most. */
const prints = (latencyIntervalSeconds: number): string => `
interval:ms:200 { print(@run); print(@wait); ${beat} }
interval:ms:${Math.max(100, Math.round(latencyIntervalSeconds * 1000))} { print(@latency); }
`;

/**
 * Starts bpf/runqlat.bt, and again whenever it ends.
 * @throws ProbeError BPFTRACE_FAILED, when it does not attach
 */
export async function startSchedDriver(options: SchedDriverOptions): Promise<SchedDriver> {
  const reading = createReading();
  const script = startScript(options, {
    file,
    prints: prints(options.latencyIntervalSeconds),
    record: reading.take,
    ended: reading.clear,
  });
  const trouble = await script.attached;
  if (trouble !== null) {
    await script.stop();
    throw new ProbeError('BPFTRACE_FAILED', `${file}: ${trouble}`, { program: file });
  }
  return {
    probe: {
      readTotals: reading.totals,
      forget: reading.forget,
      counters: () => ({
        // It is asked for times, and counts no events.
        events: 0,
        recovered: 0,
        lost: { ...script.losses() },
        entries: reading.totals().size,
      }),
    },
    source: createLatencySource(reading.latencies, script.trouble),
    stop: script.stop,
  };
}

/** What the maps printed last, by cgroup; 0 is a task of an autogroup, which is the root's. */
function createReading() {
  let run = new Map<number, number>();
  let wait = new Map<number, number>();
  let latencies = new Map<number, Counters>();
  /** bpftrace keeps its keys: of a cgroup that is gone for good, nothing is told while its time stands still. */
  const forgotten = new Map<number, number>();
  return {
    take: ({ name, entries }: Extract<BpftraceRecord, { type: 'map' }>): void => {
      if (name === 'run') run = sumsOf(entries);
      else if (name === 'wait') wait = sumsOf(entries);
      else if (name === 'latency') latencies = histogramsOf(entries);
    },
    totals: (): Map<number, SchedTotals> => {
      const totals = new Map<number, SchedTotals>();
      for (const [id, runNs] of run) {
        if (forgotten.get(id) === runNs) continue;
        forgotten.delete(id);
        totals.set(id, { ...emptyTotals(), runNs, waitNs: wait.get(id) ?? 0 });
      }
      return totals;
    },
    forget: (ids: readonly number[]): void => {
      for (const id of ids) forgotten.set(id, run.get(id) ?? 0);
    },
    /** The next run counts from zero, and its maps are printed one after another: beside one of it, none of the last may stand. */
    clear: (): void => {
      [run, wait, latencies] = [new Map(), new Map(), new Map()];
      forgotten.clear();
    },
    latencies: () => ({ latencies, wait }),
  };
}

type Entries = Extract<BpftraceRecord, { type: 'map' }>['entries'];

const idOf = (key: string | null): number => Number(key) || 1;

function sumsOf(entries: Entries): Map<number, number> {
  const sums = new Map<number, number>();
  for (const [key, value] of entries)
    if (typeof value === 'number') sums.set(idOf(key), (sums.get(idOf(key)) ?? 0) + value);
  return sums;
}

/** Octaves of 2^−30 s that are counted: up to 2^34 s. */
const octaves = 64;

function histogramsOf(entries: Entries): Map<number, Counters> {
  const all = new Map<number, Counters>();
  for (const [key, value] of entries) {
    if (!Array.isArray(value)) continue;
    const counts = all.get(idOf(key)) ?? new Float64Array(octaves + 1);
    for (const { min = 0, count } of value as readonly Bucket[])
      counts[octaveOf(min)] = (counts[octaveOf(min)] ?? 0) + count;
    all.set(idOf(key), counts);
  }
  return all;
}

/** 0: below one unit; else one more than its power of two. */
function octaveOf(min: number): number {
  return min < 1 ? 0 : Math.min(octaves, Math.round(Math.log2(min)) + 1);
}

function createLatencySource(
  latest: () => { latencies: ReadonlyMap<number, Counters>; wait: ReadonlyMap<number, number> },
  trouble: Source['trouble'],
): Source {
  /** The buckets, and the sum in ns behind them. */
  const tally = createTally(octaves + 2);
  const take = (living: LivingInstance, ids: Iterable<number>): void => {
    const { latencies, wait } = latest();
    for (const id of ids) {
      const counts = latencies.get(id);
      if (counts) tally.add(living, id, Float64Array.of(...counts, wait.get(id) ?? 0));
    }
  };
  return {
    name: 'sched',
    read: living => {
      for (const one of living) take(one, one.members.keys());
    },
    samples: living => [
      {
        metric: 'sculptor.runqueue.latency',
        start: living.start,
        value: latencyOf(tally.of(living)),
      },
    ],
    host: () => [],
    lost: () => ({}),
    forget: gone => {
      for (const [id, living] of gone) if (living) take(living, [id]);
      tally.forget(gone.keys());
    },
    trouble,
    stop: () => undefined,
  };
}

function latencyOf(counters: Counters): ExponentialHistogram {
  const counts = Array.from(counters.subarray(1, octaves + 1));
  const zeroCount = counters[0] ?? 0;
  return {
    kind: 'exponential',
    count: counts.reduce((sum, count) => sum + count, zeroCount),
    sum: (counters[octaves + 1] ?? 0) / 1e9,
    scale: 0,
    zeroCount,
    offset: -30,
    counts,
  };
}
