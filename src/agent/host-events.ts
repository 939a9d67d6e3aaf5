import type { OutgoingEvent } from '../contract/events.ts';
import type { Placement, Topology } from '../contract/host.ts';
import { readText } from '../linux/read-file.ts';
import type { Roots } from '../linux/roots.ts';
import { readTopology } from '../linux/topology.ts';
import { plainEvent } from '../otlp/plain-event.ts';

/**
 * Answers the topology event when there is reason to tell: at first, when CPUs went on- or offline (`changed`), and once within
 * the interval. In between only one file is read.
 */
export function createTopologyTeller(
  roots: Roots,
  hostId: string,
  intervalSeconds: number,
): (now: number) => { readonly event: OutgoingEvent; readonly changed: boolean } | null {
  let told: { online: string | null; at: number } | null = null;
  return now => {
    const online = readText(`${roots.sys}/devices/system/cpu/online`);
    if (told && told.online === online && now - told.at < intervalSeconds) return null;
    const event = topologyEvent(readTopology(roots, hostId));
    const changed = told !== null && told.online !== online;
    told = { online, at: now };
    return { event, changed };
  };
}

function topologyEvent(topology: Topology): OutgoingEvent {
  const online = topology.cpus.filter(cpu => cpu.online).length;
  return plainEvent(
    'sculptor.topology',
    topology,
    `${topology.hostName}: ${online} of ${topology.cpus.length} CPUs online, ${topology.nodes.length} memory nodes, cgroup v${topology.cgroupVersion}`,
  );
}

export function placementEvent(placement: Placement): OutgoingEvent {
  const { instance, alive, taskCount, cgroup } = placement;
  const body = alive
    ? `${instance.name} (${instance.id}): ${taskCount} tasks, weight ${cgroup.weight ?? 'none'}`
    : `${instance.name} (${instance.id}) has ended`;
  return plainEvent('sculptor.placement', placement, body);
}
