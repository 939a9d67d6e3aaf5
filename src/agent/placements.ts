import type { Placement } from '../contract/host.ts';
import { type PlacementReader, readPlacement } from '../linux/placement.ts';
import type { LivingInstance } from './instances.ts';

/** Placements that are read in one tick: each costs two files a task. The rest comes with the next tick. */
const mostPerTick = 50;

export type Placements = {
  /**
   * The placements to tell now: of new instances, of contended ones whose placement has changed, and of all once within
   * `intervalSeconds`. `now` is monotonic.
   */
  readonly due: (
    living: Iterable<LivingInstance>,
    suspects: readonly LivingInstance[],
    now: number,
  ) => Placement[];
  /** What to tell of instances that have ended. */
  readonly ended: (gone: readonly LivingInstance[]) => Placement[];
};

type Told = { placement: Placement; digest: string; at: number };

export function createPlacements(
  reader: PlacementReader,
  intervalSeconds: number,
  hotTids: (cgroupId: number) => readonly number[],
): Placements {
  const told = new Map<number, Told>();

  const look = (living: LivingInstance, now: number): Placement | null => {
    const placement = readPlacement(reader, living.instance, living.path, hotTids(living.cgroupId));
    const digest = digestOf(placement);
    const last = told.get(living.cgroupId);
    if (last && last.digest === digest && now - last.at < intervalSeconds) return null;
    told.set(living.cgroupId, { placement, digest, at: now });
    return placement;
  };

  return {
    due: (living, suspects, now) => {
      const wanted = new Set<LivingInstance>();
      for (const one of living) {
        const last = told.get(one.cgroupId);
        if (!last || now - last.at >= intervalSeconds) wanted.add(one);
      }
      for (const one of suspects) wanted.add(one);
      return [...wanted].slice(0, mostPerTick).flatMap(one => look(one, now) ?? []);
    },
    ended: gone =>
      gone.flatMap(({ cgroupId }) => {
        const last = told.get(cgroupId);
        told.delete(cgroupId);
        return last ? [{ ...last.placement, alive: false, tasks: [], taskCount: 0 }] : [];
      }),
  };
}

/** What counts as a change: not the CPU on which a task happened to run last. */
function digestOf(placement: Placement): string {
  return JSON.stringify({
    ...placement,
    tasks: placement.tasks.map(({ cpu: _, ...task }) => task),
  });
}
