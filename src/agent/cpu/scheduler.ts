import { existsSync } from 'node:fs';
import type { AgentConfig } from '../../contract/config.ts';
import type { Clock, Say } from '../../contract/ports.ts';
import { bpfCapabilities, mustHave } from '../../linux/capabilities.ts';
import type { CgroupLayout } from '../../linux/cgroups.ts';
import { btfOf, type Native, ownBtf } from '../../linux/native.ts';
import { openMaskedThreads } from '../../linux/own-masks.ts';
import type { PlacementReader } from '../../linux/placement.ts';
import { readCpuTimes } from '../../linux/procfs.ts';
import type { Roots } from '../../linux/roots.ts';
import { readCpuIds, readTopology } from '../../linux/topology.ts';
import type { Sample } from '../../otlp/sample.ts';
import { startSchedScript } from '../bpftrace/sched-script.ts';
import type { RunByCpu } from '../memory/locality.ts';
import { startRunqueueProbe } from '../probes/runqueue.ts';
import { type SchedProbe, startSchedProbe, type TotalsReader } from '../probes/sched.ts';
import type { ChangedTask, RankedTask } from '../probes/sched-layout.ts';
import type { Source } from '../sources/source.ts';
import type { HotTask } from '../tasks/hot-tasks.ts';
import { createSchedSource } from './sched-source.ts';

/** The scheduler as one driver tells it. */
export type Scheduler = {
  readonly probe: TotalsReader;
  /** What it knows beside the totals. */
  readonly source: (tasks: TaskChoice) => Source;
  /** Empty where the driver does not tell it. */
  readonly runByCpu: () => RunByCpu;
  readonly maskedThreads: PlacementReader['maskedThreads'];
  /** Metrics of the totals that it cannot tell. */
  readonly untold: ReadonlySet<Sample['metric']>;
  /** Resolves when nothing of it is left. */
  readonly stop: () => Promise<void>;
};

/** What becomes of the tasks that have changed. */
export type TaskChoice = {
  /** Those that get series of their own. */
  readonly hottest: (changed: readonly RankedTask[]) => readonly HotTask[];
  /** Of a driver that knows of each who it is, and where it ran. */
  readonly ran: (changed: readonly ChangedTask[]) => void;
};

export type SchedulerOptions = {
  readonly config: Pick<AgentConfig, 'driver' | 'btf' | 'maxInstances' | 'detailIntervalSeconds'>;
  readonly native: Native;
  readonly roots: Roots;
  readonly layout: CgroupLayout;
  readonly hostId: string;
  readonly clock: Clock;
  readonly say: Say;
};

/**
 * Begins to ask the scheduler by the driver that is configured; where the kernel has no BTF, by a file that has it.
 * @throws ProbeError, KernelInterfaceError as `mustHave`, `startSchedProbe` and `startSchedScript`
 * @throws ConfigError as `startRunqueueProbe`
 */
export async function startScheduler(options: SchedulerOptions): Promise<Scheduler> {
  const { config, roots } = options;
  mustHave(roots, bpfCapabilities);
  if (config.driver === 'bpftrace') return startByBpftrace(options);
  if (config.btf !== undefined && !existsSync(ownBtf(roots)))
    return startByFile(options, config.btf);
  return startByLibbpf(options);
}

/** Whether a driver tells of a task what it did since the task began; else since the driver did. */
export function tellsOfWholeTasks(driver: AgentConfig['driver']): boolean {
  return driver === 'bpftrace';
}

/** bpftrace prints its totals five times a second: read more often, they would stand and jump. */
export function atItsPace<Settings extends { readonly readIntervalSeconds: number }>(
  driver: AgentConfig['driver'],
  settings: Settings,
): Settings {
  return driver === 'bpftrace'
    ? { ...settings, readIntervalSeconds: Math.max(1, settings.readIntervalSeconds) }
    : settings;
}

/** The memory node of each CPU. */
function nodesOfCpus({ roots, hostId }: SchedulerOptions): number[] {
  const nodeOfCpu: number[] = [];
  for (const { id, node } of readTopology(roots, hostId).cpus) nodeOfCpu[id] = node;
  return nodeOfCpu;
}

function startByLibbpf(options: SchedulerOptions): Scheduler {
  const { native, roots, layout, config } = options;
  const masked = openMaskedThreads(native);
  let probe: SchedProbe;
  try {
    probe = startSchedProbe({
      native,
      cgroupV1: layout.version === 1,
      maxInstances: config.maxInstances,
      nodeOfCpu: nodesOfCpus(options),
      possibleCpus: readCpuIds(roots).possible.length,
    });
  } catch (error) {
    masked.close();
    throw error;
  }
  return {
    probe,
    source: ({ hottest, ran }) =>
      createSchedSource({
        probe,
        now: options.clock.unixSeconds,
        cpus: () => readCpuTimes(roots).map(({ cpu }) => cpu),
        hottest: changed => {
          ran(changed);
          return hottest(changed);
        },
      }),
    runByCpu: probe.readRunByCpu,
    maskedThreads: masked.read,
    untold: new Set(),
    stop: async () => {
      masked.close();
      probe.stop();
    },
  };
}

/** What the run queue's probe leaves at 0, since it does not know. */
const untoldByFile = [
  'sculptor.cpu.throttled.time',
  'sculptor.cpu.time',
  'sculptor.offcpu.time',
  'sculptor.runqueue.wait.by_preemptor',
] as const;

function startByFile(options: SchedulerOptions, btf: string): Scheduler {
  const { native, layout, config, clock, say } = options;
  const probe = startRunqueueProbe({
    native,
    btf,
    cgroupV1: layout.version === 1,
    maxInstances: config.maxInstances,
    nodeOfCpu: nodesOfCpus(options),
  });
  say(
    'warn',
    `agent: this kernel has no BTF: by ${btf} it tells of run time, wait, latency, switches, wake-ups and migrations of instances. Not told are who is throttled (that is wait), off-CPU time, user and kernel time, whom a wait was for, tasks, and run and wait by CPU; no other BPF source runs`,
  );
  const { unixSeconds: now } = clock;
  return {
    probe,
    source: () => createSchedSource({ probe, now, cpus: () => [], hottest: () => [] }),
    runByCpu: () => new Map(),
    maskedThreads: () => null,
    untold: new Set(untoldByFile),
    stop: async () => probe.stop(),
  };
}

/** What /proc does not have of a task. */
const untoldByScript = [
  'sculptor.task.throttled.time',
  'sculptor.task.offcpu.time',
  'sculptor.task.migrations',
  'sculptor.task.node_migrations',
] as const;

async function startByBpftrace(options: SchedulerOptions): Promise<Scheduler> {
  const { config, layout, roots, clock, say } = options;
  const { bpftraceOf } = await import('../bpftrace/run.ts');
  const script = await startSchedScript({
    run: bpftraceOf(config.btf, roots),
    cgroupV1: layout.version === 1,
    detailSeconds: config.detailIntervalSeconds / 2,
    nodeOfCpu: nodesOfCpus(options),
    kernelBtf: btfOf(config.btf, roots),
    roots,
    clock,
    say,
  });
  return {
    probe: script,
    source: ({ hottest }) => ({
      ...createSchedSource({
        probe: script,
        now: clock.unixSeconds,
        cpus: () => readCpuTimes(roots).map(({ cpu }) => cpu),
        hottest,
      }),
      trouble: script.trouble,
    }),
    runByCpu: () => new Map(),
    maskedThreads: () => null,
    untold: new Set(untoldByScript),
    stop: script.stop,
  };
}
