import type { AgentConfig } from '../contract/config.ts';
import { attr } from '../contract/metrics.ts';
import { containerIdOf } from '../linux/instance-at.ts';
import type { Sample } from '../otlp/metric-data.ts';
import type { HotTask } from './hot-tasks.ts';
import type { LivingInstance } from './instances.ts';
import { explicitHistogram, exponentialHistogram } from './probes/latency.ts';

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

export function detailSamples(
  { totals, start }: Pick<LivingInstance, 'totals' | 'start'>,
  histograms: AgentConfig['histograms'],
): Sample[] {
  const histogram =
    histograms === 'explicit' ? explicitHistogram(totals) : exponentialHistogram(totals);
  return [
    { metric: 'sculptor.runqueue.latency', start, value: histogram },
    { metric: 'sculptor.cpu.migrations', start, value: totals.migrations },
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
  const series = (metric: Sample['metric'], value: number): Sample => ({
    metric,
    attributes,
    task: `${task.tid}@${task.startTicks}`,
    start: task.start,
    value,
  });
  return [
    series('sculptor.task.cpu.time', task.runNs / 1e9),
    series('sculptor.task.runqueue.wait', task.waitNs / 1e9),
    series('sculptor.task.throttled.time', task.throttledNs / 1e9),
    series('sculptor.task.migrations', task.migrations),
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
