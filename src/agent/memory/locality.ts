import type { NodePages } from '../../linux/memory.ts';
import type { LivingInstance } from '../instances/instances.ts';

/** ns that each cgroup ran on each CPU since it was first seen: cgroup id → `[cpu]`. */
export type RunByCpu = ReadonlyMap<number, Float64Array>;

/** Whether instances run where their memory is. */
export type Locality = {
  /** Takes where they ran since the reading before. `nodeOfCpu`: CPUs that are online. */
  readonly read: (
    living: readonly LivingInstance[],
    run: RunByCpu,
    nodeOfCpu: ReadonlyMap<number, number>,
  ) => void;
  /**
   * Chance that a page of the instance, any of them, is on the node on which it runs, at any time that it runs: Σ over nodes of
   * its share of pages × its share of run time. Null when it was not seen to run, or has no pages.
   */
  readonly localShare: (living: LivingInstance, pages: NodePages) => number | null;
};

type Ran = {
  /** `[cpu]` ns, over all its cgroups. */
  readonly byCpu: Float64Array;
  /** Node → ns between the last two readings. */
  readonly recent: ReadonlyMap<number, number>;
};

export function createLocality(): Locality {
  const last = new WeakMap<LivingInstance, Ran>();
  return {
    read: (living, run, nodeOfCpu) => {
      for (const one of living) last.set(one, next(last.get(one), runOf(one, run), nodeOfCpu));
    },
    localShare: (living, pages) => {
      const recent = last.get(living)?.recent;
      if (recent === undefined) return null;
      const byNode = new Map<number, number>();
      for (const nodes of pages.values())
        for (const [node, bytes] of nodes) byNode.set(node, (byNode.get(node) ?? 0) + bytes);
      const whole = sum(recent) * sum(byNode);
      if (whole === 0) return null;
      return (
        [...byNode].reduce((n, [node, bytes]) => n + bytes * (recent.get(node) ?? 0), 0) / whole
      );
    },
  };
}

function runOf({ members }: LivingInstance, run: RunByCpu): Float64Array {
  const own = [...members.keys()].flatMap(id => run.get(id) ?? []);
  const length = Math.max(0, ...own.map(byCpu => byCpu.length));
  return Float64Array.from({ length }, (_, cpu) =>
    own.reduce((ns, byCpu) => ns + (byCpu[cpu] ?? 0), 0),
  );
}

/** What it ran before it was read for the first time is recent too; when idle, it belongs where it ran last. */
function next(
  before: Ran | undefined,
  byCpu: Float64Array,
  nodeOfCpu: ReadonlyMap<number, number>,
): Ran {
  const recent = new Map<number, number>();
  for (const [cpu, node] of nodeOfCpu) {
    const ns = Math.max(0, (byCpu[cpu] ?? 0) - (before?.byCpu[cpu] ?? 0));
    recent.set(node, (recent.get(node) ?? 0) + ns);
  }
  return { byCpu, recent: sum(recent) > 0 ? recent : (before?.recent ?? recent) };
}

function sum(times: ReadonlyMap<number, number>): number {
  return [...times.values()].reduce((total, value) => total + value, 0);
}
