import type { Placement } from '../../contract/host.ts';
import { allowedCpus, classOf, type HostModel } from '../host-model.ts';
import type { Observation } from '../series.ts';

/** An instance that wants the same CPUs. */
export type Contender = {
  readonly placement: Placement;
  readonly observation: Observation;
  readonly cpus: readonly number[];
  /** How many entities want a CPU for it: 0..1 of a cgroup, its runnable tasks where they compete one by one. */
  readonly activity: number;
  readonly batch: boolean;
  /** Whether the beneficiary's weight counts beside it: they part right below the same cgroup. */
  readonly sibling: boolean;
};

export type Contention = {
  readonly cpus: readonly number[];
  readonly contenders: readonly Contender[];
  /** Instances that are placed and heard of; of others it is not known whether they are there still. */
  readonly instances: number;
  /** Mean weight on one of its CPUs that competes with the beneficiary's, in cgroup v2 units. */
  readonly contendersWeight: number;
  /** Cores the contenders get now. */
  readonly contendersCores: number;
};

/** Below this an instance is asleep: it takes nothing worth planning for. */
const activeCores = 0.02;

/** Who wants the CPUs of an instance, and with which weight. */
export function contentionOf(
  host: HostModel,
  placement: Placement,
  latest: ReadonlyMap<string, Observation>,
): Contention {
  const cpus = allowedCpus(host, placement);
  const contenders: Contender[] = [];
  const branches = new Map<string, { readonly weight: number; activity: number }>();
  let tasksWeight = 0;
  let instances = 0;
  const own = new Set(cpus);
  for (const other of host.placements.values()) {
    const observation = latest.get(other.instance.id);
    if (!observation) continue;
    instances += 1;
    if (other.instance.id === placement.instance.id) continue;
    const wanted = observation.usedCores + observation.waitCores;
    if (wanted < activeCores) continue;
    const shared = allowedCpus(host, other).filter(cpu => own.has(cpu));
    if (shared.length === 0) continue;
    const branch = branchOf(other, placement);
    const activity = branch === null ? wanted : Math.min(1, wanted);
    contenders.push({
      placement: other,
      observation,
      cpus: shared,
      activity,
      batch: classOf(host, other.instance.id).is === 'batch',
      sibling: levelOf(other, branch) === placement.cgroup.parent,
    });
    if (branch === null) {
      tasksWeight += defaultWeight * activity;
      continue;
    }
    const whole = branch === other.cgroup.path ? other : host.placements.get(branch);
    const beside = branches.get(branch) ?? {
      weight: whole ? weightOf(whole) : defaultWeight,
      activity: 0,
    };
    beside.activity = Math.min(1, beside.activity + activity);
    branches.set(branch, beside);
  }
  const weight = [...branches.values()].reduce(
    (sum, each) => sum + each.weight * each.activity,
    tasksWeight,
  );
  return {
    cpus,
    contenders,
    instances,
    contendersWeight: weight / Math.max(1, cpus.length),
    contendersCores: contenders.reduce((sum, { observation }) => sum + observation.usedCores, 0),
  };
}

/**
 * The cgroup as whose part another competes with the beneficiary: the first on its path that is not above that. All in it share its one
 * weight. Null where its tasks compete one by one: they are in a cgroup above the beneficiary, as the root is, or in one without a weight,
 * as on v2 where the cpu controller is not enabled.
 */
function branchOf({ cgroup }: Placement, beneficiary: Placement): string | null {
  if (cgroup.parent === null) return null;
  const branch =
    cgroup.parent === beneficiary.cgroup.parent
      ? cgroup.path
      : upToParting(cgroup.path, beneficiary.cgroup.path);
  return branch === cgroup.path && cgroup.weight === null ? null : branch;
}

/** A path as far as the first name in which it is not another's; null: it is above that. */
function upToParting(path: string, other: string): string | null {
  // Asked of each pair of instances: split, they would take more than all else that is asked of a pair.
  let same = 0;
  while (same < path.length && path[same] === other[same]) same += 1;
  const isAbove = same === path.length && (same === other.length || other[same] === '/');
  if (isAbove) return null;
  const end = path.indexOf('/', same === other.length ? same + 1 : same);
  return end < 0 ? path : path.slice(0, end);
}

/** The cgroup in which a contender, or the branch that it is in, competes with the beneficiary. */
function levelOf({ cgroup }: Placement, branch: string | null): string | null {
  if (branch !== null) return branch.slice(0, branch.lastIndexOf('/')) || '/';
  return cgroup.weight === null && cgroup.parent !== null ? cgroup.parent : cgroup.path;
}

const defaultWeight = 100;

/** SCHED_IDLE cgroups have weight 3 of 1024. @see kernel/sched/sched.h WEIGHT_IDLEPRIO */
export function weightOf(placement: Placement): number {
  return placement.cgroup.idle === true ? 0.3 : (placement.cgroup.weight ?? defaultWeight);
}
