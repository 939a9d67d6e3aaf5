import type { Placement } from '../contract/host.ts';
import {
  type Outline,
  type Place,
  type PlacementReader,
  readOutline,
  readPlacement,
} from '../linux/placement.ts';
import { readTaskStatus } from '../linux/procfs.ts';
import type { LivingInstance } from './instances.ts';

/** Placements that are read in one tick; the rest comes with the next ones. */
const mostPerTick = 50;

/** Tasks that are read in one tick, each two files of /proc: some 20 ms. One placement is always read. */
const mostTasksPerTick = 400;

/** What is told again since its time has come is told in batches: each looks at all threads of the host once. */
const refreshSeconds = 2;

/** Tasks of a suspect whose mask is looked at each time, by turns: reading all would cost more than it tells. */
const masksPerLook = 1;

/** Looks at a suspect of which one asks its tasks again where their cpuset is. */
const looksToCpuset = 8;

export type Placements = {
  /**
   * The placements to tell now: of new instances first, of suspects that have changed, and of all once within
   * `intervalSeconds`. `now` is monotonic.
   */
  readonly due: (
    living: Iterable<LivingInstance>,
    suspects: readonly LivingInstance[],
    now: number,
  ) => { living: LivingInstance; placement: Placement }[];
  /** What to tell of instances that have ended; nothing of those that were never told. */
  readonly ended: (gone: readonly LivingInstance[]) => Placement[];
};

type Told = { placement: Placement; at: number; served: number; looks: number };

export function createPlacements(
  options: PlacementReader & {
    readonly intervalSeconds: number;
    readonly hotTids: (living: LivingInstance) => readonly number[];
    /** vCPU index by tid. */
    readonly vcpusOf: (living: LivingInstance) => ReadonlyMap<number, number>;
  },
): Placements {
  const { intervalSeconds, hotTids, vcpusOf } = options;
  const told = new Map<LivingInstance, Told>();
  let refreshed = Number.NEGATIVE_INFINITY;
  let masked: ReadonlySet<number> | null | undefined;
  const reader: PlacementReader = {
    ...options,
    // All threads of the host at once: not more than once a tick.
    maskedThreads: () => {
      if (masked === undefined) masked = options.maskedThreads();
      return masked;
    },
  };

  /** The placement as it is now, or null when a suspect is where it was told to be. */
  const look = (living: LivingInstance, now: number): Placement | null => {
    const vcpus = vcpusOf(living);
    const place = placeOf(living, vcpus);
    const last = told.get(living);
    const where = last && last.looks % looksToCpuset > 0 ? last.placement.cpuset.path : undefined;
    const outline = readOutline(reader, place, hotTids(living), where);
    const served = living.totals.runNs + living.totals.waitNs;
    const same = last !== undefined && sameOutline(last.placement, outline, vcpus);
    if (last && same) {
      last.looks += 1;
      const due = now - last.at >= intervalSeconds;
      // Tasks that neither ran nor waited are where they were: their files need not be read.
      if (due && last.served === served) return tell(living, last.placement, now, served);
      if (!due && sameMasks(reader, last)) return null;
    }
    return tell(living, readPlacement(reader, place, outline), now, served);
  };

  const tell = (
    living: LivingInstance,
    placement: Placement,
    now: number,
    served: number,
  ): Placement => {
    told.set(living, { placement, at: now, served, looks: 0 });
    return placement;
  };

  return {
    due: (living, suspects, now) => {
      masked = undefined;
      const refreshes = now - refreshed >= refreshSeconds;
      if (refreshes) refreshed = now;
      const toldBefore = refreshes ? now - intervalSeconds : Number.NEGATIVE_INFINITY;
      const answers: { living: LivingInstance; placement: Placement }[] = [];
      let tasks = 0;
      for (const one of queue(told, living, suspects, toldBefore)) {
        if (answers.length >= mostPerTick || tasks >= mostTasksPerTick) break;
        const placement = look(one, now);
        tasks += placement?.tasks.length ?? masksPerLook;
        if (placement) answers.push({ living: one, placement });
      }
      return answers;
    },
    ended: gone =>
      gone.flatMap(living => {
        const last = told.get(living);
        told.delete(living);
        return last ? [{ ...last.placement, alive: false, tasks: [], taskCount: 0 }] : [];
      }),
  };
}

function placeOf(
  { instance, path, members }: LivingInstance,
  vcpus: ReadonlyMap<number, number>,
): Place {
  return { instance, path, members: [...members.values()], vcpus };
}

/** New ones, then suspects, then those that were told longest ago. */
function queue(
  told: ReadonlyMap<LivingInstance, Told>,
  living: Iterable<LivingInstance>,
  suspects: readonly LivingInstance[],
  toldBefore: number,
): Iterable<LivingInstance> {
  const fresh: LivingInstance[] = [];
  const stale: { living: LivingInstance; at: number }[] = [];
  for (const one of living) {
    const at = told.get(one)?.at;
    if (at === undefined) fresh.push(one);
    else if (at <= toldBefore) stale.push({ living: one, at });
  }
  stale.sort((a, b) => a.at - b.at);
  return new Set([...fresh, ...suspects, ...stale.map(entry => entry.living)]);
}

function sameOutline(last: Placement, now: Outline, vcpus: ReadonlyMap<number, number>): boolean {
  return (
    last.taskCount === now.taskCount &&
    last.tasks.length === now.tids.length &&
    last.tasks.every((task, i) => task.tid === now.tids[i] && task.vcpu === vcpus.get(task.tid)) &&
    JSON.stringify([last.cgroup, last.cpuset]) === JSON.stringify([now.cgroup, now.cpuset])
  );
}

function sameMasks(reader: PlacementReader, { placement: { tasks }, looks }: Told): boolean {
  for (let i = 0; i < Math.min(masksPerLook, tasks.length); i += 1) {
    const task = tasks[(looks * masksPerLook + i) % tasks.length];
    const status = task && readTaskStatus(reader.roots, task.tid);
    if (!task || !status || status.allowedCpus.join() !== task.affinity.join()) return false;
  }
  return true;
}
