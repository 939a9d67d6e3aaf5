import type { Placement } from '../../contract/host.ts';
import { allowedCpus, classOf, type HostModel } from '../host-model.ts';
import type { Observation } from '../series.ts';

/** An instance that wants the same CPUs at the same level of the cgroup tree. */
export type Contender = {
  readonly placement: Placement;
  readonly observation: Observation;
  readonly cpus: readonly number[];
  /** How many entities of its weight want a CPU: 0..1 of a cgroup, the runnable tasks of the root. */
  readonly activity: number;
  readonly batch: boolean;
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
    contenders.push({
      placement: other,
      observation,
      cpus: shared,
      // The tasks of the root cgroup compete each on its own, those of any other share its one weight.
      activity: other.cgroup.parent === null ? wanted : Math.min(1, wanted),
      batch: classOf(host, other.instance.id).is === 'batch',
      sibling: other.cgroup.parent === placement.cgroup.parent && other.cgroup.parent !== null,
    });
  }
  const weight = contenders.reduce(
    (sum, { placement: other, activity }) => sum + weightOf(other) * activity,
    0,
  );
  return {
    cpus,
    contenders,
    instances,
    contendersWeight: weight / Math.max(1, cpus.length),
    contendersCores: contenders.reduce((sum, { observation }) => sum + observation.usedCores, 0),
  };
}

/** SCHED_IDLE cgroups have weight 3 of 1024. @see kernel/sched/sched.h WEIGHT_IDLEPRIO */
export function weightOf(placement: Placement): number {
  return placement.cgroup.idle === true ? 0.3 : (placement.cgroup.weight ?? 100);
}
