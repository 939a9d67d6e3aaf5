import type { Instance } from '../../contract/instance.ts';
import { attr, guestOrigin } from '../../contract/metrics.ts';
import { instanceAt } from '../../linux/instance-at.ts';
import type { Identity } from '../resources.ts';

/** What a guest claims to be, and under which name it is kept: it says what the guest calls its own instances. */
const kept: Readonly<Record<string, string>> = {
  [attr.instanceId]: attr.guestInstanceId,
  [attr.instanceKind]: attr.guestInstanceKind,
  [attr.instanceName]: attr.guestInstanceName,
  [attr.hostId]: attr.guestHostId,
  [attr.hostName]: attr.guestHostName,
};

/** A claim that is kept is cut here: an id of the kernel or of a runtime is shorter. */
const maxClaim = 512;

/**
 * Whether an attribute says who speaks, which only the transport may; however it is written: Prometheus makes one label of
 * `sculptor.origin` and `sculptor_origin`, which then holds the values of both.
 * @see https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-attributes
 */
export function isIdentity(key: string): boolean {
  const name = key.toLowerCase().replaceAll(/[^a-z0-9]+/g, '.');
  return (
    Object.hasOwn(kept, name) ||
    name === attr.serviceInstanceId ||
    name === attr.origin ||
    name.startsWith('sculptor.instance.') ||
    name.startsWith('sculptor.guest.')
  );
}

/** Every event of this product, however it is written. */
export function isForbiddenEvent(name: string): boolean {
  return name.trimStart().toLowerCase().startsWith('sculptor.');
}

/**
 * The attributes of a guest's resource: the host's and the instance's as the transport tells them, and its claims under
 * names of their own. `service.instance.id` is unique per host, guest and what the guest tells apart: a cgroup may have `:` in
 * its name, and what follows is the guest's own word.
 */
export function guestAttributes(host: Identity, instance: Instance) {
  const id = instance.id.replaceAll(':', '%3A');
  return (claimed: ReadonlyMap<string, string>): Record<string, string> => {
    const inner = claimed.get(attr.serviceInstanceId) ?? claimed.get(attr.instanceId) ?? '';
    const attributes: Record<string, string> = {
      [attr.hostId]: host.hostId,
      [attr.hostName]: host.hostName,
      [attr.instanceId]: instance.id,
      [attr.instanceKind]: instance.kind,
      [attr.instanceName]: instance.name,
      [attr.serviceInstanceId]: `guest:${host.hostId}:${id}:${inner.slice(0, maxClaim)}`,
      [attr.origin]: guestOrigin,
    };
    for (const [key, name] of Object.entries(kept)) {
      const claim = claimed.get(key);
      if (claim !== undefined) attributes[name] = claim.slice(0, maxClaim);
    }
    return attributes;
  };
}

/** An instance by the id that the configuration gives it: a VM by its UUID, anything else by its cgroup. */
export function instanceOf(id: string, name?: string): Instance {
  const uuid = id.toLowerCase();
  const instance: Instance = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid)
    ? { id: uuid, kind: 'vm', name: uuid }
    : instanceAt(id);
  return name === undefined ? instance : { ...instance, name };
}
