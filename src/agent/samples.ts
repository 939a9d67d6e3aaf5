import { attr } from '../contract/metrics.ts';
import { containerIdOf } from '../linux/instance-at.ts';
import type { Sample } from '../otlp/metric-data.ts';
import type { Counters } from './counters.ts';
import type { HotTask } from './hot-tasks.ts';
import type { LivingInstance } from './instances.ts';
import type { PreemptorWait } from './preemptors.ts';
import { exponentialHistogram } from './probes/latency.ts';
import { blockedReasons, latenciesOf, word } from './probes/sched-layout.ts';

/** What names the host and the agent in every resource. */
export type Identity = { readonly hostId: string; readonly hostName: string };

export function instanceResource(
  identity: Identity,
  { instance, path }: Pick<LivingInstance, 'instance' | 'path'>,
): Record<string, string> {
  const container = containerIdOf(path);
  return {
    ...hostAttributes(identity, instance.id),
    [attr.instanceId]: instance.id,
    [attr.instanceKind]: instance.kind,
    [attr.instanceName]: instance.name,
    ...(container === null ? {} : { [attr.containerId]: container }),
  };
}

/** The host itself: time of its CPUs, and what the agent says of itself. */
export function hostResource(identity: Identity): Record<string, string> {
  return {
    ...hostAttributes(identity, ''),
    [attr.instanceId]: identity.hostId,
    [attr.instanceKind]: 'host',
    [attr.instanceName]: identity.hostName,
  };
}

function hostAttributes(identity: Identity, instanceId: string): Record<string, string> {
  return {
    [attr.serviceName]: 'sculptor-agent',
    [attr.serviceInstanceId]: `${identity.hostId}${instanceId}`,
    [attr.hostId]: identity.hostId,
    [attr.hostName]: identity.hostName,
  };
}

const noAttributes = {};

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
const offcpuReasons = [...blockedReasons, 'throttled'].map(reason => ({ [attr.reason]: reason }));
const [userMode, kernelMode] = [{ [attr.cpuMode]: 'user' }, { [attr.cpuMode]: 'kernel' }];
const voluntary = { [attr.switchType]: 'voluntary' };
const involuntary = { [attr.switchType]: 'involuntary' };

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

/** Of those that every instance may have waited for; a neighbour's own are made each time. */
const preemptorsOfAll = new Map(
  ['other', 'none'].map(preemptor => [preemptor, { [attr.preemptor]: preemptor }]),
);

/** `waits`: of one life, by whom its tasks waited for. */
export function preemptorSamples(waits: readonly PreemptorWait[], start: number): Sample[] {
  return waits.map(({ preemptor, ns }) => ({
    metric: 'sculptor.runqueue.wait.by_preemptor',
    attributes: preemptorsOfAll.get(preemptor) ?? { [attr.preemptor]: preemptor },
    start,
    value: ns / 1e9,
  }));
}

export function taskSamples(task: HotTask): Sample[] {
  const attributes = {
    [attr.threadId]: task.tid,
    [attr.threadName]: task.name,
    [attr.processId]: task.tgid,
    [attr.taskStartTicks]: task.startTicks,
    ...(task.vcpu === null ? {} : { [attr.vcpuIndex]: task.vcpu }),
  };
  const series = (
    metric: Sample['metric'],
    value: number,
    part?: Sample['attributes'],
  ): Sample => ({
    metric,
    attributes: part ? { ...attributes, ...part } : attributes,
    task: `${task.tid}@${task.startTicks}`,
    ...(part ? { part: Object.values(part).join(' ') } : {}),
    start: task.start,
    value,
  });
  return [
    series('sculptor.task.cpu.time', task.runNs / 1e9),
    series('sculptor.task.runqueue.wait', task.waitNs / 1e9),
    series('sculptor.task.throttled.time', task.throttledNs / 1e9),
    ...offcpuReasons.map((reason, nth) =>
      series(
        'sculptor.task.offcpu.time',
        (nth < blockedReasons.length ? (task.blockedNs[nth] ?? 0) : task.throttledNs) / 1e9,
        reason,
      ),
    ),
    series('sculptor.task.context_switches', task.voluntarySwitches, voluntary),
    series('sculptor.task.context_switches', task.involuntarySwitches, involuntary),
    series('sculptor.task.migrations', task.migrations),
    series('sculptor.task.node_migrations', task.nodeMigrations),
  ];
}

export function cpuSamples(
  times: readonly { cpu: number; idleSeconds: number; stealSeconds: number }[],
  start: number,
): Sample[] {
  return times.flatMap(({ cpu, idleSeconds, stealSeconds }) => [
    {
      metric: 'system.cpu.time' as const,
      attributes: { [attr.cpu]: cpu, [attr.cpuMode]: 'idle' },
      start,
      value: idleSeconds,
    },
    {
      metric: 'system.cpu.time' as const,
      attributes: { [attr.cpu]: cpu, [attr.cpuMode]: 'steal' },
      start,
      value: stealSeconds,
    },
  ]);
}
