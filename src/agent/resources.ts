import { attr } from '../contract/metrics.ts';
import { containerIdOf } from '../linux/instance-at.ts';
import type { LivingInstance } from './instances/instances.ts';

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
