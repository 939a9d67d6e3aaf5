import type { Placement } from '../../contract/host.ts';

export type Cgroup = {
  readonly parent: Cgroup | null;
  /** 0 of the root. */
  readonly depth: number;
  /** Its place in `all`. */
  readonly nth: number;
  /** As it is told, in cgroup v2 units; null: it is told to have none. Of those without tasks, and so without a word of them, the default. */
  weight: number | null;
};

export const defaultWeight = 100;

/** SCHED_IDLE cgroups have weight 3 of 1024. @see kernel/sched/sched.h WEIGHT_IDLEPRIO */
const idleWeight = 0.3;

export type CgroupTree = {
  readonly at: (path: string) => Cgroup;
  readonly all: readonly Cgroup[];
};

/** The cgroups of these placements and those above them; one object for each. */
export function createCgroupTree(placements: Iterable<Placement>): CgroupTree {
  const byPath = new Map<string, Cgroup>();
  const all: Cgroup[] = [];
  const at = (path: string): Cgroup => {
    const known = byPath.get(path);
    if (known) return known;
    const parent = path === '/' ? null : at(path.slice(0, path.lastIndexOf('/')) || '/');
    const depth = parent === null ? 0 : parent.depth + 1;
    const cgroup = { parent, depth, nth: all.length, weight: defaultWeight };
    byPath.set(path, cgroup);
    all.push(cgroup);
    return cgroup;
  };
  for (const { cgroup } of placements) at(cgroup.path).weight = toldWeight(cgroup);
  return { at, all };
}

function toldWeight({ weight, idle }: Placement['cgroup']): number | null {
  return idle === true ? idleWeight : weight;
}

/** The weight of an instance among its siblings; the default's, where it has none of its own. */
export function weightOf({ cgroup }: Placement): number {
  return toldWeight(cgroup) ?? defaultWeight;
}
