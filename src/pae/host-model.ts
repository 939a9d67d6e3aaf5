import type { Action } from '../contract/action.ts';
import { finalActionStates } from '../contract/action.ts';
import type { Placement, Topology } from '../contract/host.ts';
import { attr } from '../contract/metrics.ts';
import {
  type InstancePolicy,
  instancePolicyOf,
  type Policy,
  policySchema,
} from '../contract/policy.ts';
import type { InstanceClass } from '../contract/recommendation.ts';
import type { ResourcePoints } from '../contract/telemetry.ts';
import { demandCores } from './demand.ts';
import type { Observation } from './series.ts';

/** What the engine knows of the host: from events, and from the host's own series, alone. */
export type HostModel = {
  /** That of whom an agent told first, be it only its series; null before. */
  id: string | null;
  topology: Topology | null;
  readonly placements: Map<string, Placement>;
  /** Since when nothing was heard of an instance beside this placement of it, in seconds since the epoch. */
  readonly unheard: WeakMap<Placement, number>;
  policy: Policy;
  /** Actions that hold something, by beneficiary. */
  readonly running: Map<string, Action>;
  /** Instances whose class is not declared and that behave like latency-critical ones. */
  readonly inferred: Set<string>;
  /** What was worked out of placements and of the policy, until they are replaced. */
  readonly worked: Worked;
  /** Idle share 0..1 of each CPU over the last interval, by CPU id. */
  readonly idle: Map<number, number>;
  readonly idleSeconds: Map<number, { time: number; seconds: number }>;
};

/** Instances whose rule is remembered: those that ended are among them. */
const mostRules = 20_000;

type Worked = {
  readonly cpus: WeakMap<Placement, AllowedCpus & { readonly of: Topology | null }>;
  rules: { readonly of: Policy; readonly byInstance: Map<string, InstancePolicy | null> } | null;
};

/** `key`: the same for all that have the same ones. */
export type AllowedCpus = { readonly list: readonly number[]; readonly key: string };

export function createHostModel(): HostModel {
  return {
    id: null,
    topology: null,
    placements: new Map(),
    unheard: new WeakMap(),
    // Until the sculptor has told its own: the defaults, under which nothing is declared.
    policy: policySchema.parse({}),
    running: new Map(),
    inferred: new Set(),
    worked: { cpus: new WeakMap(), rules: null },
    idle: new Map(),
    idleSeconds: new Map(),
  };
}

/** Instances that are known at most: the largest map that an agent may be given. */
const mostPlacements = 65_536;

/** @returns false when it was not taken, since too many are known */
export function takePlacement(host: HostModel, placement: Placement): boolean {
  const { id } = placement.instance;
  if (!placement.alive) host.placements.delete(id);
  else if (host.placements.size < mostPlacements || host.placements.has(id))
    host.placements.set(id, placement);
  else return false;
  return true;
}

/** Longer than the longest `agent.placementIntervalSeconds`: who lives was told again by then. */
const goneSeconds = 1.1 * 3600;

/** Instances that were placed, and of which nothing was `heard` for so long: they ended while there was no agent to tell it. */
export function goneUntold(
  host: HostModel,
  heard: ReadonlyMap<string, unknown>,
  now: number,
): string[] {
  const gone: string[] = [];
  for (const [id, placement] of host.placements) {
    // Where the clock was set back it is since then.
    const since = heard.has(id) ? now : Math.min(now, host.unheard.get(placement) ?? now);
    host.unheard.set(placement, since);
    if (now - since > goneSeconds) gone.push(id);
  }
  return gone;
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

/** A renewal is told a moment after it was made. */
const lateSeconds = 10;

/** Forgets actions whose lease is over: the sculptor gave back then, and that it told so was lost on the way. */
export function dropLapsed(host: HostModel, now: number): void {
  for (const [beneficiary, { leaseEnds }] of host.running)
    if (leaseEnds !== null && now > leaseEnds + lateSeconds) host.running.delete(beneficiary);
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
export function allowedCpus(host: HostModel, placement: Placement): AllowedCpus {
  const known = host.worked.cpus.get(placement);
  if (known && known.of === host.topology) return known;
  const online = new Set(host.topology?.cpus.filter(cpu => cpu.online).map(cpu => cpu.id));
  const effective =
    placement.cpuset.effective.length > 0 ? placement.cpuset.effective : [...online];
  const masks = new Set(placement.tasks.flatMap(task => task.affinity));
  const list = effective.filter(cpu => online.has(cpu) && (masks.size === 0 || masks.has(cpu)));
  const worked = { of: host.topology, list, key: list.join() };
  host.worked.cpus.set(placement, worked);
  return worked;
}

/** The policy's rule for an instance, as `instancePolicyOf` finds it; each is looked for once per policy. */
export function ruleOf(host: HostModel, instanceId: string): InstancePolicy | null {
  if (host.worked.rules?.of !== host.policy)
    host.worked.rules = { of: host.policy, byInstance: new Map() };
  const { byInstance } = host.worked.rules;
  const known = byInstance.get(instanceId);
  if (known !== undefined) return known;
  if (byInstance.size >= mostRules) byInstance.clear();
  const rule = instancePolicyOf(host.policy, instanceId);
  byInstance.set(instanceId, rule);
  return rule;
}

/** A task that never sleeps makes run + wait of its instance one core at least; this much is left for what is measured late. */
const restingCores = 0.9;
/** What a task of a latency-critical instance demands at most (cores). */
const burstCores = 0.5;
/** Below this there is nothing to tell it by. */
const awakeCores = 0.02;

/** How long it must have been seen: a spinner that has just begun looks like one that sleeps. */
const inferSeconds = 2;

/**
 * Infers from what was seen last what an instance is that nobody declared: latency-critical when each of its tasks sleeps
 * and runs in short turns.
 */
export function infer(host: HostModel, placement: Placement, recent: readonly Observation[]): void {
  const { id } = placement.instance;
  const tasks = Math.max(1, placement.taskCount);
  const seenSeconds = recent.reduce((sum, { spanSeconds }) => sum + spanSeconds, 0);
  const bursts = recent.every(
    observation =>
      observation.usedCores + observation.waitCores < restingCores &&
      demandCores(observation, tasks) < burstCores * tasks,
  );
  const awake = recent.some(({ usedCores, waitCores }) => usedCores + waitCores >= awakeCores);
  if (bursts && awake && seenSeconds > inferSeconds) host.inferred.add(id);
  else host.inferred.delete(id);
}

/** The class of an instance and how it is known. */
export function classOf(
  host: HostModel,
  instanceId: string,
): { is: InstanceClass; source: 'declared' | 'inferred' | 'default' } {
  const declared = ruleOf(host, instanceId)?.class;
  if (declared) return { is: declared, source: 'declared' };
  return host.inferred.has(instanceId)
    ? { is: 'latency-critical', source: 'inferred' }
    : { is: 'normal', source: 'default' };
}
