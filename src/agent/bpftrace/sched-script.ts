import { ProbeError } from '../../contract/errors.ts';
import type { SchedProbe, TotalsReader } from '../probes/sched.ts';
import {
  blockedReasons,
  counterWords,
  layout,
  type RankedTask,
  type SchedTotals,
} from '../probes/sched-layout.ts';
import type { Counters } from '../sources/counters.ts';
import type { Source } from '../sources/source.ts';
import { keysOfCgroups, pick } from './by-cgroup.ts';
import { namesIn } from './kernel-names.ts';
import { type BpftraceRecord, beat } from './output.ts';
import { printsOf, type ScriptContext, startCountingScript } from './script.ts';
import { createTask } from './script-task.ts';
import { createSleeps } from './sleeps.ts';

/** The scheduler as bpf/sched.bt tells it: what the libbpf probe answers, but for run time by CPU, and of tasks what /proc has. */
export type SchedScript = TotalsReader &
  Pick<SchedProbe, 'takePairs' | 'detailsOf' | 'readWaitByCpu'> & {
    readonly readDetails: () => Omit<ReturnType<SchedProbe['readDetails']>, 'tasks'> & {
      readonly tasks: readonly RankedTask[];
    };
    readonly trouble: NonNullable<Source['trouble']>;
    /** Resolves when no bpftrace is left. */
    readonly stop: () => Promise<void>;
  };

export type SchedScriptOptions = ScriptContext & {
  /** How often the details are printed, as long as it runs: a run that is begun anew would leave a gap in every total. */
  readonly detailSeconds: number;
  /** The memory node of each CPU; those past the end are of node 0. */
  readonly nodeOfCpu: readonly number[];
};

const file = 'bpf/sched.bt';

/** What is printed five times a second, so that a reading each second is a fifth off at most. */
const totals = ['run', 'wait', 'throttled'] as const;
const details = ['latency', 'did', 'mode'] as const;

const printsEach = (detailSeconds: number): string => `
interval:ms:200 { ${printsOf(totals)} ${beat} }
interval:ms:${Math.max(100, Math.round(detailSeconds * 1000))} { @us = nsecs / 1000; ${printsOf([...details, 'slept', 'us', 'waited_for', 'pairs', 'busy'])} clear(@pairs); clear(@busy); }
`;

/**
 * Starts bpf/sched.bt, and again whenever it ends.
 * @throws ProbeError BPFTRACE_FAILED, when it does not attach
 */
export async function startSchedScript(options: SchedScriptOptions): Promise<SchedScript> {
  const sleeps = createSleeps();
  const [pairs, busy] = [createHeap(), createHeap()];
  const script = startCountingScript(options, {
    file,
    maps: [...totals, ...details],
    others: ['waited_for'],
    tracepoints: ['switch', 'wakeup', 'wakeup_new', 'migrate_task', 'process_free'].map(
      event => `sched:sched_${event}`,
    ),
    prints: printsEach(options.detailSeconds),
    fit: text =>
      forKernel(withNodes(text, options.nodeOfCpu), namesIn(options.kernelBtf, differing)),
    besides: {
      record: record => {
        sleeps.take(record);
        if (record.name === 'pairs') pairs.add(record.entries);
        else if (record.name === 'busy') busy.add(record.entries);
      },
      ended: sleeps.begin,
    },
  });
  const trouble = await script.attached;
  if (trouble !== null) {
    await script.stop();
    throw new ProbeError('BPFTRACE_FAILED', `${file}: ${trouble}`, { program: file });
  }
  const readTotals = (): Map<number, SchedTotals> => {
    const all = new Map<number, SchedTotals>();
    for (const [field, map] of totalsFields)
      for (const [key, ns] of script.sums(map)) {
        const one = all.get(Number(key)) ?? { runNs: 0, waitNs: 0, throttledNs: 0 };
        one[field] = ns;
        all.set(Number(key), one);
      }
    return all;
  };
  const readCounters = (): Map<number, Counters> => {
    const counters = createCounters();
    for (const map of details)
      for (const [key, value] of script.sums(map)) counters.add(map, key, value);
    for (const [key, ns] of sleeps.all()) counters.add('slept', key, ns);
    for (const [id, { runNs, waitNs, throttledNs }] of readTotals()) {
      const words = counters.of(id);
      words[layout.totals.runNs / 8] = runNs;
      words[layout.totals.waitNs / 8] = waitNs;
      words[layout.totals.throttledNs / 8] = throttledNs;
      words[layout.totals.latencySumNs / 8] = waitNs;
    }
    return counters.all;
  };
  const takePairs = () => {
    const taken = pairs.take();
    return {
      forEach: (take: (waiter: number, preemptor: number, ns: number) => void) => {
        for (const [[waiter, preemptor], ns] of taken) take(waiter, preemptor, ns);
      },
    };
  };
  const takeTasks = () =>
    busy.take().map(([[cgroupId, tid], ns]) => createTask(options.roots, tid, cgroupId, ns));
  return {
    readTotals,
    forget: ids => {
      script.drop(keysOfCgroups(ids));
      sleeps.drop(ids);
    },
    counters: () => ({
      // It is asked for times.
      events: null,
      recovered: 0,
      lost: { ...script.losses() },
      entries: script.sums('run').size,
    }),
    readDetails: () => ({ instances: readCounters(), pairs: takePairs(), tasks: takeTasks() }),
    takePairs,
    detailsOf: ids => pick(readCounters(), ids),
    readWaitByCpu: cpus => {
      const waits = script.sums('waited_for');
      return cpus.map(cpu => waits.get(String(cpu)) ?? 0);
    },
    trouble: script.trouble,
    stop: script.stop,
  };
}

/** Of a map of pairs that is emptied by each print: what came since it was last taken. */
function createHeap() {
  let sums = new Map<string, number>();
  return {
    add: (entries: Extract<BpftraceRecord, { type: 'map' }>['entries']): void => {
      for (const [key, value] of entries)
        if (key !== null && typeof value === 'number') sums.set(key, (sums.get(key) ?? 0) + value);
    },
    take: (): [pair: [number, number], sum: number][] => {
      const taken = [...sums].map(([key, sum]): [[number, number], number] => {
        const [first = 0, second = 0] = key.split(',').map(Number);
        return [[first, second], sum];
      });
      sums = new Map();
      return taken;
    },
  };
}

const totalsFields = [
  ['runNs', 'run'],
  ['waitNs', 'wait'],
  ['throttledNs', 'throttled'],
] as const;

/** By what `@did` counts, the field of `Counters`. */
const deeds: readonly (number | undefined)[] = [
  layout.totals.voluntarySwitches,
  layout.totals.involuntarySwitches,
  undefined,
  layout.totals.migrations,
  layout.totals.nodeMigrations,
  ...Array.from({ length: 3 }, () => undefined),
  ...blockedReasons.map(() => layout.totals.voluntarySwitches),
  ...blockedReasons.map(() => layout.totals.wakeups),
];

/** Of maps whose keys are a cgroup and which of its numbers it is: where in `Counters` that is, in bytes. */
const offsetOf = {
  did: (what: number) => deeds[what],
  mode: (mode: number) => (mode === 0 ? layout.totals.userNs : layout.totals.kernelNs),
  slept: (reason: number) => layout.totals.blockedNs + reason * 8,
  latency: (slot: number) => layout.totals.slots + slot * 8,
} as const;

function createCounters() {
  const all = new Map<number, Counters>();
  const of = (id: number): Counters => {
    const words = all.get(id) ?? new Float64Array(counterWords);
    all.set(id, words);
    return words;
  };
  const add = (words: Counters, offset: number | undefined, value: number): void => {
    if (offset !== undefined) words[offset / 8] = (words[offset / 8] ?? 0) + value;
  };
  return {
    all,
    of,
    add: (map: keyof typeof offsetOf, key: string, value: number): void => {
      const [id = 0, which = 0] = key.split(',').map(Number);
      add(of(id), offsetOf[map](which), value);
      if (map === 'latency') add(of(id), layout.totals.latencyCount, value);
    },
  };
}

/** The script with the nodes of CPUs. */
function withNodes(text: string, nodeOfCpu: readonly number[]): string {
  const nodes = nodeOfCpu.flatMap((node, cpu) => (node ? [`@node[(int32)${cpu}] = ${node};`] : []));
  return replaceEach(text, {
    '@node[(int32)0] = 0;': ['@node[(int32)0] = 0;', ...nodes].join(' '),
  });
}

/** What the script says of the account of throttled time, which came with Linux 6.6. */
const account = {
  total: '$total = $queue->throttled_clock_self_time;',
  held: '$held = $queue->throttled_clock_self;',
  clock: '$clock = $queue->rq->clock;',
} as const;

/** In which kernels differ; a register that is x86-64's. */
const differing = ['throttled_clock_self_time', 'throttled_clock_pelt_time', 'orig_ax'] as const;

/** What looks for a lock among the registers of a system call. */
const lock = / else if \(\(curtask->flags[\s\S]*?\$reason = 2;\s*\}\s*\}/;

/**
 * The script in the words of a kernel that has these fields. Before Linux 6.6 the one that PELT keeps, by its own clock, is the only one of a
 * queue; without CONFIG_CFS_BANDWIDTH nothing is ever held back.
 */
export function forKernel(script: string, has: ReadonlySet<(typeof differing)[number]>): string {
  const text = has.has('orig_ax') ? script : script.replace(lock, '');
  if (has.has('throttled_clock_self_time')) return text;
  if (has.has('throttled_clock_pelt_time'))
    return replaceEach(text, {
      [account.total]: '$total = $queue->throttled_clock_pelt_time;',
      [account.held]:
        '$held = $queue->throttle_count != 0 ? $queue->throttled_clock_pelt : (uint64)0;',
      [account.clock]: '$clock = $queue->rq->clock_pelt - $queue->rq->lost_idle_time;',
    });
  return replaceEach(text, {
    [account.total]: '$total = (uint64)0;',
    [account.held]: '$held = (uint64)0;',
  });
}

function replaceEach(text: string, words: Readonly<Record<string, string>>): string {
  let all = text;
  for (const [from, to] of Object.entries(words)) {
    if (!all.includes(from)) throw new Error(`${file} does not say "${from}"`);
    all = all.replaceAll(from, to);
  }
  return all;
}
