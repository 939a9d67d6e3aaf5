import type { Instance } from '../contract/instance.ts';
import { type CgroupLayout, cgroupIdOf, walkCgroups } from '../linux/cgroups.ts';
import type { SchedTotals } from './probes/sched.ts';

/** One life of an instance: from when its cgroup was first seen until it is gone. */
export type LivingInstance = {
  readonly instance: Instance;
  readonly cgroupId: number;
  readonly path: string;
  /** Seconds since the epoch: start time of its cumulative series. */
  readonly start: number;
  totals: SchedTotals;
  /** Change over the last read, in cores. */
  window: { usedCores: number; waitCores: number; throttledCores: number };
};

export type InstanceBook = {
  readonly living: () => IterableIterator<LivingInstance>;
  readonly size: () => number;
  /** Takes a reading of the kernel's totals; answers the instances that are new. */
  readonly take: (
    totals: ReadonlyMap<number, SchedTotals>,
    elapsedSeconds: number,
    now: number,
  ) => LivingInstance[];
  /** Finds the cgroups that are gone, and drops them; their keys are to be forgotten by the probe. */
  readonly sweep: () => LivingInstance[];
  /** Ids whose cgroup was gone before it could be named: their time is lost, and counted. */
  readonly unnamed: () => number;
};

/** Names what the kernel counted: cgroup id → path → instance. The hierarchy is walked only when an id is unknown. */
export function createInstanceBook(layout: CgroupLayout): InstanceBook {
  const byId = new Map<number, LivingInstance>();
  /** Ids that a walk did not find: looked for once. Cleared with each walk that finds something new, so it stays small. */
  let lost = new Set<number>();
  let unnamed = 0;

  const nameUnknown = (totals: ReadonlyMap<number, SchedTotals>, now: number): LivingInstance[] => {
    const unknown = [...totals.keys()].filter(id => !byId.has(id) && !lost.has(id));
    if (unknown.length === 0) return [];
    const { paths } = walkCgroups(layout);
    const stillLost = new Set([...lost].filter(id => totals.has(id)));
    const born: LivingInstance[] = [];
    for (const id of unknown) {
      const path = paths.get(id);
      if (path === undefined) {
        stillLost.add(id);
        unnamed += 1;
        continue;
      }
      const living = beginLife(id, path, now);
      byId.set(id, living);
      born.push(living);
    }
    lost = stillLost;
    return born;
  };

  return {
    living: () => byId.values(),
    size: () => byId.size,
    take: (totals, elapsedSeconds, now) => {
      const born = nameUnknown(totals, now);
      for (const [id, next] of totals) {
        const living = byId.get(id);
        if (living) advance(living, next, elapsedSeconds);
      }
      return born;
    },
    sweep: () => {
      const gone = [...byId.values()].filter(
        living => cgroupIdOf(layout, living.path) !== living.cgroupId,
      );
      for (const living of gone) byId.delete(living.cgroupId);
      return gone;
    },
    unnamed: () => unnamed,
  };
}

function beginLife(cgroupId: number, path: string, now: number): LivingInstance {
  return {
    instance: {
      id: path,
      kind: 'cgroup',
      name: path === '/' ? '/' : path.slice(path.lastIndexOf('/') + 1),
    },
    cgroupId,
    path,
    start: now,
    totals: {
      runNs: 0,
      waitNs: 0,
      throttledNs: 0,
      migrations: 0,
      latencyCount: 0,
      latencySumNs: 0,
      slots: new Float64Array(160),
    },
    window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
  };
}

function advance(living: LivingInstance, next: SchedTotals, elapsedSeconds: number): void {
  const cores = (now: number, before: number) => Math.max(0, now - before) / 1e9 / elapsedSeconds;
  living.window = {
    usedCores: cores(next.runNs, living.totals.runNs),
    waitCores: cores(next.waitNs, living.totals.waitNs),
    throttledCores: cores(next.throttledNs, living.totals.throttledNs),
  };
  living.totals = next;
}

/** DESIGN, "Rates": what is worth a series of 200 ms. The worst first; the rest is only counted. */
export function contended(
  living: Iterable<LivingInstance>,
  most: number,
  threshold = { waitCores: 0.05, waitRatio: 0.1 },
): { fast: LivingInstance[]; uncounted: number } {
  const hot = [...living]
    .filter(
      ({ window: { usedCores, waitCores } }) =>
        waitCores >= threshold.waitCores &&
        waitCores >= threshold.waitRatio * (usedCores + waitCores),
    )
    .sort((a, b) => b.window.waitCores - a.window.waitCores);
  return { fast: hot.slice(0, most), uncounted: Math.max(0, hot.length - most) };
}
