import type { Action } from '../contract/action.ts';
import { finalActionStates } from '../contract/action.ts';
import type { Placement, Topology } from '../contract/host.ts';
import { attr } from '../contract/metrics.ts';
import { instancePolicyOf, type Policy, policySchema } from '../contract/policy.ts';
import type { InstanceClass } from '../contract/recommendation.ts';
import type { ResourcePoints } from '../contract/telemetry.ts';

/** What the engine knows of the host: from events, and from the host's own series, alone. */
export type HostModel = {
  topology: Topology | null;
  readonly placements: Map<string, Placement>;
  policy: Policy;
  /** Actions that hold something, by beneficiary. */
  readonly running: Map<string, Action>;
  /** Idle share 0..1 of each CPU over the last interval, by CPU id. */
  readonly idle: Map<number, number>;
  readonly idleSeconds: Map<number, { time: number; seconds: number }>;
};

export function createHostModel(): HostModel {
  return {
    topology: null,
    placements: new Map(),
    // Until the sculptor has told its own: the defaults, under which nothing is declared.
    policy: policySchema.parse({}),
    running: new Map(),
    idle: new Map(),
    idleSeconds: new Map(),
  };
}

export function takePlacement(host: HostModel, placement: Placement): void {
  if (placement.alive) host.placements.set(placement.instance.id, placement);
  else host.placements.delete(placement.instance.id);
}

/** Keeps the actions that hold something. */
export function takeAction(host: HostModel, action: Action): void {
  const id = action.beneficiary?.id;
  if (id === undefined) return;
  const holds =
    action.state === 'applied' || action.state === 'observing' || action.state === 'kept';
  if (holds) host.running.set(id, action);
  else if (finalActionStates.has(action.state) && host.running.get(id)?.id === action.id)
    host.running.delete(id);
}

/** Takes `system.cpu.time` of the host's resource. */
export function takeCpuTimes(host: HostModel, { points }: ResourcePoints): void {
  for (const point of points) {
    const cpu = point.attributes[attr.cpu];
    if (point.metric !== 'system.cpu.time' || point.attributes[attr.cpuMode] !== 'idle') continue;
    if (typeof cpu !== 'number' || typeof point.value !== 'number') continue;
    const last = host.idleSeconds.get(cpu);
    if (last && point.time > last.time) {
      host.idle.set(
        cpu,
        Math.min(1, Math.max(0, (point.value - last.seconds) / (point.time - last.time))),
      );
    }
    host.idleSeconds.set(cpu, { time: point.time, seconds: point.value });
  }
}

/** CPUs an instance may use now: its cpuset, and within it what its tasks' masks leave. */
export function allowedCpus(host: HostModel, placement: Placement): number[] {
  const online = new Set(host.topology?.cpus.filter(cpu => cpu.online).map(cpu => cpu.id));
  const effective =
    placement.cpuset.effective.length > 0 ? placement.cpuset.effective : [...online];
  const masks = new Set(placement.tasks.flatMap(task => task.affinity));
  return effective.filter(cpu => online.has(cpu) && (masks.size === 0 || masks.has(cpu)));
}

/** The class of an instance and how it is known. */
export function classOf(
  host: HostModel,
  instanceId: string,
): { is: InstanceClass; source: 'declared' | 'default' } {
  const declared = instancePolicyOf(host.policy, instanceId)?.class;
  return declared ? { is: declared, source: 'declared' } : { is: 'normal', source: 'default' };
}
