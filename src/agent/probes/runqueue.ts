import { ConfigError } from '../../contract/errors.ts';
import { attachOrClose, howToMakeBtf, loadProbe, type Native } from '../../linux/native.ts';
import { mostShared, nodesOf, type ProbeCounters, type SchedProbe, totalsMaps } from './sched.ts';
import { countersOf, decodeTotals, layout } from './sched-layout.ts';
import { entriesOf, keysOf, lookUpSums, missedRuns, readStats } from './sums.ts';

/** What of the scheduler's probe a kernel without BTF of its own can answer. */
export type RunqueueProbe = Omit<SchedProbe, 'readRunByCpu' | 'counters'> & {
  readonly counters: () => Omit<ProbeCounters, 'lost'> & {
    readonly lost: Readonly<Omit<ProbeCounters['lost'], 'pair' | 'withheld_switch'>>;
  };
};

/** The switch first, as with the scheduler's probe. */
const programs = [
  'runqueue_switch',
  'runqueue_wakeup',
  'runqueue_wakeup_new',
  'runqueue_migrate_task',
] as const;

/**
 * Loads and attaches bpf/runqueue.bpf.c by the BTF in a file. Totals of throttled time, of sleeps, of modes and of pairs stay 0, and
 * it names no tasks: whoever tells of it leaves those out.
 * @throws ProbeError, KernelInterfaceError, ConfigError as `loadProbe`; ConfigError CONFIG_INVALID when the file is of another kernel
 */
export function startRunqueueProbe(options: {
  native: Native;
  /** The BTF of the kernel that runs. */
  btf: string;
  cgroupV1: boolean;
  maxInstances: number;
  /** The memory node of each CPU; those past the end are of node 0. */
  nodeOfCpu: readonly number[];
  /** Tasks that are followed at once; 65,536 unless told. */
  maxTasks?: number;
}): RunqueueProbe {
  const { btf, maxTasks } = options;
  const object = loadProbe(options.native, 'runqueue', {
    btf,
    constants: { cgroup_v1: options.cgroupV1, node_of_cpu: nodesOf(options.nodeOfCpu) },
    maxEntries: {
      instances: options.maxInstances,
      sums: options.maxInstances + mostShared,
      ...(maxTasks === undefined ? {} : { intervals: maxTasks }),
    },
  });
  let sums: Buffer = Buffer.alloc(0);
  attachOrClose(object, 'runqueue', () => {
    if (object.runRaw('runqueue_fits') !== 1)
      throw new ConfigError(
        'CONFIG_INVALID',
        `agent.btf: ${btf}: the BTF of another kernel: by it this process is not who it is`,
        { path: btf, remedy: howToMakeBtf },
      );
    sums = object.mapMemory('sums');
    for (const program of programs) object.attach(program);
  });
  let entries = 0;
  const none = { forEach: () => undefined };
  const charge = (): number => object.runRaw('runqueue_read');
  return {
    readTotals: into => {
      const totals = decodeTotals(sums, charge(), into);
      entries = totals.size;
      return totals;
    },
    readDetails: () => {
      charge();
      const instances = countersOf(totalsMaps.map(map => entriesOf(object.readSums(map))));
      return { instances, pairs: none, tasks: [] };
    },
    takePairs: () => none,
    detailsOf: ids => {
      charge();
      return countersOf(totalsMaps.map(map => lookUpSums(object, map, ids)));
    },
    readWaitByCpu: () => [],
    forget: ids => {
      for (const map of totalsMaps) object.deleteKeys(map, keysOf(ids));
    },
    counters: () => {
      const { stats } = layout;
      const sum = readStats(object);
      return {
        events: sum(stats.events),
        recovered: 0,
        lost: {
          task_storage: sum(stats.lostTaskStorage),
          instance_map_full: sum(stats.lostInstanceFull),
          instance_memory: sum(stats.lostInstanceMemory),
          unseen_switch: sum(stats.lostSwitch),
          recursion: missedRuns(object),
        },
        entries,
      };
    },
    stop: () => object.close(),
  };
}
