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

export function headlineSamples({ totals, start }: LivingInstance): Sample[] {
  return [
    { metric: 'container.cpu.time', start, value: totals.runNs / 1e9 },
    { metric: 'sculptor.runqueue.wait', start, value: totals.waitNs / 1e9 },
    { metric: 'sculptor.cpu.throttled.time', start, value: totals.throttledNs / 1e9 },
  ];
}

/** Time in ns by the mode that the kernel's ticks found it in; `user` and `kernel` are what the instance ran. */
export type ModeTimes = { readonly userNs: number; readonly kernelNs: number };

/** What the scheduler's probe counted of one life. */
export function detailSamples(counters: Counters, modes: ModeTimes, start: number): Sample[] {
  const of = (
    metric: Sample['metric'],
    value: Sample['value'],
    attributes?: Sample['attributes'],
  ): Sample => ({ metric, start, value, ...(attributes ? { attributes } : {}) });
  const blockedNs = blockedReasons.map((_, nth) => word(counters, 'blockedNs', nth));
  return [
    of('sculptor.runqueue.latency', exponentialHistogram(latenciesOf(counters))),
    of('sculptor.cpu.time', modes.userNs / 1e9, { [attr.cpuMode]: 'user' }),
    of('sculptor.cpu.time', modes.kernelNs / 1e9, { [attr.cpuMode]: 'kernel' }),
    ...byReason(blockedNs, word(counters, 'throttledNs')).map(({ reason, seconds }) =>
      of('sculptor.offcpu.time', seconds, { [attr.reason]: reason }),
    ),
    of('sculptor.cpu.context_switches', word(counters, 'voluntarySwitches'), {
      [attr.switchType]: 'voluntary',
    }),
    of('sculptor.cpu.context_switches', word(counters, 'involuntarySwitches'), {
      [attr.switchType]: 'involuntary',
    }),
    of('sculptor.cpu.wakeups', word(counters, 'wakeups')),
    of('sculptor.cpu.migrations', word(counters, 'migrations')),
    of('sculptor.cpu.node_migrations', word(counters, 'nodeMigrations')),
  ];
}

/** `waits`: of one life, by whom its tasks waited for. */
export function preemptorSamples(waits: readonly PreemptorWait[], start: number): Sample[] {
  return waits.map(({ preemptor, ns }) => ({
    metric: 'sculptor.runqueue.wait.by_preemptor',
    attributes: { [attr.preemptor]: preemptor },
    start,
    value: ns / 1e9,
  }));
}

function byReason(
  blockedNs: readonly number[],
  throttledNs: number,
): { reason: string; seconds: number }[] {
  return [
    ...blockedReasons.map((reason, nth) => ({ reason, seconds: (blockedNs[nth] ?? 0) / 1e9 })),
    { reason: 'throttled', seconds: throttledNs / 1e9 },
  ];
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
    attributes: { ...attributes, ...part },
    task: `${task.tid}@${task.startTicks}`,
    ...(part ? { part: Object.values(part).join(' ') } : {}),
    start: task.start,
    value,
  });
  return [
    series('sculptor.task.cpu.time', task.runNs / 1e9),
    series('sculptor.task.runqueue.wait', task.waitNs / 1e9),
    series('sculptor.task.throttled.time', task.throttledNs / 1e9),
    ...byReason(task.blockedNs, task.throttledNs).map(({ reason, seconds }) =>
      series('sculptor.task.offcpu.time', seconds, { [attr.reason]: reason }),
    ),
    series('sculptor.task.context_switches', task.voluntarySwitches, {
      [attr.switchType]: 'voluntary',
    }),
    series('sculptor.task.context_switches', task.involuntarySwitches, {
      [attr.switchType]: 'involuntary',
    }),
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
