import { attr } from '../../contract/metrics.ts';
import type { PointAttributes, Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { exponentialHistogram } from '../probes/latency.ts';
import { blockedReasons, latenciesOf, word } from '../probes/sched-layout.ts';
import type { Counters } from '../sources/counters.ts';
import type { HotTask } from '../tasks/hot-tasks.ts';
import type { PreemptorWait } from './preemptors.ts';

const noAttributes: PointAttributes = Object.freeze({});

export function headlineSamples({ totals, start }: LivingInstance): Sample[] {
  return [
    { metric: 'container.cpu.time', attributes: noAttributes, start, value: totals.runNs / 1e9 },
    {
      metric: 'sculptor.runqueue.wait',
      attributes: noAttributes,
      start,
      value: totals.waitNs / 1e9,
    },
    {
      metric: 'sculptor.cpu.throttled.time',
      attributes: noAttributes,
      start,
      value: totals.throttledNs / 1e9,
    },
  ];
}

/** Time in ns by the mode that the kernel's ticks found it in; `user` and `kernel` are what the instance ran. */
export type ModeTimes = { readonly userNs: number; readonly kernelNs: number };

/** One series that every instance has: its attributes are one object for all of them. */
type DetailSeries = Required<Pick<Sample, 'metric' | 'attributes'>> & {
  readonly of: (counters: Counters, modes: ModeTimes) => number;
};

/** Reasons for which a task is off its CPU and not runnable, each with its attributes. */
const offcpuReasons = [...blockedReasons, 'throttled'].map(reason => fixed(attr.reason, reason));
const [userMode, kernelMode] = [fixed(attr.cpuMode, 'user'), fixed(attr.cpuMode, 'kernel')];
const [voluntary, involuntary] = [
  fixed(attr.switchType, 'voluntary'),
  fixed(attr.switchType, 'involuntary'),
];

function fixed(name: string, value: string): PointAttributes {
  return Object.freeze({ [name]: value });
}

const detailSeries: readonly DetailSeries[] = [
  { metric: 'sculptor.cpu.time', attributes: userMode, of: (_, modes) => modes.userNs / 1e9 },
  { metric: 'sculptor.cpu.time', attributes: kernelMode, of: (_, modes) => modes.kernelNs / 1e9 },
  ...offcpuReasons.map(
    (attributes, nth): DetailSeries => ({
      metric: 'sculptor.offcpu.time',
      attributes,
      of: counters =>
        (nth < blockedReasons.length
          ? word(counters, 'blockedNs', nth)
          : word(counters, 'throttledNs')) / 1e9,
    }),
  ),
  counted('sculptor.cpu.context_switches', 'voluntarySwitches', voluntary),
  counted('sculptor.cpu.context_switches', 'involuntarySwitches', involuntary),
  counted('sculptor.cpu.wakeups', 'wakeups'),
  counted('sculptor.cpu.migrations', 'migrations'),
  counted('sculptor.cpu.node_migrations', 'nodeMigrations'),
];

function counted(
  metric: DetailSeries['metric'],
  field: Parameters<typeof word>[1],
  attributes: DetailSeries['attributes'] = noAttributes,
): DetailSeries {
  return { metric, attributes, of: counters => word(counters, field) };
}

/** What the scheduler's probe counted of one life. */
export function detailSamples(counters: Counters, modes: ModeTimes, start: number): Sample[] {
  return [
    {
      metric: 'sculptor.runqueue.latency',
      attributes: noAttributes,
      start,
      value: exponentialHistogram(latenciesOf(counters)),
    },
    ...detailSeries.map(({ metric, attributes, of }) => ({
      metric,
      attributes,
      start,
      value: of(counters, modes),
    })),
  ];
}

/** `waits`: of one life, by whom its tasks waited for. */
export function preemptorSamples(waits: readonly PreemptorWait[], since: number): Sample[] {
  return waits.map(({ attributes, start, ns }) => ({
    metric: 'sculptor.runqueue.wait.by_preemptor',
    attributes,
    start: start ?? since,
    value: ns / 1e9,
  }));
}

/** What names one task's series. */
type TaskNames = Pick<HotTask, 'name' | 'vcpu'> & {
  readonly task: string;
  readonly attributes: PointAttributes;
};

function taskNames(task: HotTask): TaskNames {
  const { tid, startTicks, name, tgid, vcpu } = task;
  const attributes = Object.freeze({
    [attr.threadId]: tid,
    [attr.threadName]: name,
    [attr.processId]: tgid,
    [attr.taskStartTicks]: startTicks,
    ...(vcpu === null ? {} : { [attr.vcpuIndex]: vcpu }),
  });
  return { name, vcpu, task: `${tid}@${startTicks}`, attributes };
}

/** Samples of hot tasks: `begin` a reading, then take each task of it. What names those that stay hot is made once. */
export function createTaskSamples(): {
  readonly begin: () => void;
  readonly of: (task: HotTask) => Sample[];
} {
  let before = new Map<string, TaskNames>();
  let now = new Map<string, TaskNames>();
  const namesOf = (task: HotTask): TaskNames => {
    const key = `${task.tid}@${task.startTicks}`;
    const known = before.get(key);
    const same = known?.name === task.name && known.vcpu === task.vcpu;
    const names = same ? known : taskNames(task);
    now.set(key, names);
    return names;
  };
  return {
    begin: () => {
      [before, now] = [now, new Map()];
    },
    of: task => seriesOf(task, namesOf(task)),
  };
}

function seriesOf(task: HotTask, { task: key, attributes }: TaskNames): Sample[] {
  const { start, runNs, waitNs, throttledNs, blockedNs } = task;
  const series = (metric: Sample['metric'], value: number): Sample => ({
    metric,
    attributes,
    task: key,
    start,
    value,
  });
  const part = (metric: Sample['metric'], more: PointAttributes, value: number): Sample => ({
    metric,
    attributes,
    more,
    task: key,
    start,
    value,
  });
  return [
    series('sculptor.task.cpu.time', runNs / 1e9),
    series('sculptor.task.runqueue.wait', waitNs / 1e9),
    series('sculptor.task.throttled.time', throttledNs / 1e9),
    ...offcpuReasons.map((reason, nth) => {
      const ns = nth < blockedReasons.length ? (blockedNs[nth] ?? 0) : throttledNs;
      return part('sculptor.task.offcpu.time', reason, ns / 1e9);
    }),
    part('sculptor.task.context_switches', voluntary, task.voluntarySwitches),
    part('sculptor.task.context_switches', involuntary, task.involuntarySwitches),
    series('sculptor.task.migrations', task.migrations),
    series('sculptor.task.node_migrations', task.nodeMigrations),
  ];
}

/** What is told of a CPU's time, by mode. */
const cpuModes = [
  ['idle', 'idleSeconds'],
  ['steal', 'stealSeconds'],
] as const;

/**
 * Samples of the time of each logical CPU, which never fall though what is read may: before Linux 6.8 idle time begins anew with a
 * CPU that was offline (commit 71fee48fb772), and idle time and that of waiting for I/O are not read at one moment.
 */
export function createCpuSamples(): (
  times: readonly { cpu: number; idleSeconds: number; stealSeconds: number }[],
  start: number,
) => Sample[] {
  /** By CPU and mode: what was read last, and by how much it has fallen. */
  const known = new Map<string, { readonly read: number; readonly fallen: number }>();
  const risen = (key: string, read: number): number => {
    const before = known.get(key) ?? { read, fallen: 0 };
    const fallen = before.fallen + Math.max(0, before.read - read);
    known.set(key, { read, fallen });
    return read + fallen;
  };
  return (times, start) =>
    times.flatMap(({ cpu, ...read }) =>
      cpuModes.map(([mode, seconds]) => ({
        metric: 'system.cpu.time' as const,
        attributes: { [attr.cpu]: cpu, [attr.cpuMode]: mode },
        start,
        value: risen(`${cpu} ${mode}`, read[seconds]),
      })),
    );
}
