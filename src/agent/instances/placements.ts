import type { PlacedTask, Placement } from '../../contract/host.ts';
import { cgroupIdOf } from '../../linux/cgroups.ts';
import { readHugePageSizes } from '../../linux/memory.ts';
import {
  type Outline,
  type Place,
  type PlacementReader,
  readOutline,
  readPlacement,
} from '../../linux/placement.ts';
import { readTaskStatus } from '../../linux/procfs.ts';
import { readText } from '../../linux/read-file.ts';
import type { LastRuns } from '../tasks/last-runs.ts';
import { hasRun } from './add-change.ts';
import type { CgroupChanges } from './cgroup-changes.ts';
import type { LivingInstance } from './instances.ts';

/** Placements that are read in one tick, beside those of suspects; the rest comes with the next ones. */
const mostPerTick = 50;

/** Tasks that are read for them in one tick, each two files of /proc: some 20 ms. One placement is always read. */
const mostTasksPerTick = 400;

/**
 * What suspects may take in a second: whoever may write to cgroups can make all below them suspect, as often as he likes. By the
 * second, not by the tick: each tick that reads a new task has to look at all threads of the host for masks of their own.
 */
const suspectsPerSecond = { placements: 50, tasks: 500 };

/** A timer that fires a little early must not make them wait for another tick. */
const almostASecond = 0.9;

/** What is told again since its time has come is told in batches, so far apart at most: each looks at all threads of the host once. */
const mostRefreshSeconds = 30;

/** What a batch would find too old before the next comes, and was not told by the one before, is told with it. */
const aheadOfBatch = 0.9;

/** A batch takes some ticks: so old may be what it knows of the threads with a mask of their own. */
const batchSeconds = 10;

/** Tasks of a suspect whose mask is looked at each time, by turns: reading all would cost more than it tells. */
const masksPerLook = 1;

/** Looks by turns of which one asks what the instance is given, too: on v1 its tasks may be in another cpuset. */
const looksToGiven = 8;

export type Placements = {
  /**
   * The placements to tell now: of suspects that have changed, of new instances, and of all once within `intervalSeconds`. `now`
   * is monotonic. Suspects that are too many for a second are looked at in the following ones.
   */
  readonly due: (
    living: Iterable<LivingInstance>,
    suspects: Suspects,
    now: number,
  ) => { living: LivingInstance; placement: Placement }[];
  /** Whether suspects that were left may be looked at by now, or all are to be looked at again: then `due` has something to tell, whoever is new or suspect. */
  readonly isDue: (now: number) => boolean;
  /** What to tell of instances that have ended; nothing of those that were never told. */
  readonly ended: (gone: readonly LivingInstance[]) => Placement[];
};

/** Who may be given something else by now, and who is only looked at by turns: nobody has written to that, as far as is seen. */
export type Suspects = Record<'given' | 'byTurns', readonly LivingInstance[]>;

/** `at`: when all of it was read last, but for tasks that had not run. */
type Told = { placement: Placement; at: number; served: number; looks: number };

export function createPlacements(
  options: PlacementReader & {
    readonly intervalSeconds: number;
    readonly hotTids: (living: LivingInstance) => readonly number[];
    readonly runsSince: LastRuns['since'];
    /** vCPU index by tid. */
    readonly vcpusOf: (living: LivingInstance) => ReadonlyMap<number, number>;
    /** Is told whose placement was read. */
    readonly changes: Pick<CgroupChanges, 'follow' | 'forget'>;
  },
): Placements {
  const { intervalSeconds, hotTids, runsSince, vcpusOf, changes } = options;
  const refreshSeconds = Math.min(mostRefreshSeconds, intervalSeconds / 2);
  const dueSeconds = intervalSeconds - aheadOfBatch * refreshSeconds;
  const told = new Map<LivingInstance, Told>();
  const suspected = new Map<LivingInstance, keyof Suspects>();
  let refreshed = Number.NEGATIVE_INFINITY;
  /** What suspects took of the second that began `at`. */
  let spent = { at: Number.NEGATIVE_INFINITY, placements: 0, tasks: 0 };
  // What is of the whole host, or of several instances, is read once a tick at most.
  let tickAt = Number.NEGATIVE_INFINITY;
  let masked: { readonly tids: ReadonlySet<number> | null; readonly at: number } | undefined;
  let hugePages: readonly string[] | undefined;
  const texts = new Map<string, string | null>();
  let tasksRead = 0;
  /** The threads with a mask of their own, as they were at that time or later. */
  const maskedAt = (at: number): ReadonlySet<number> | null => {
    if (masked === undefined || masked.at < at)
      masked = { tids: options.maskedThreads(), at: tickAt };
    return masked.tids;
  };
  const reader: PlacementReader = {
    ...options,
    read: path => {
      const known = texts.get(path);
      if (known !== undefined) return known;
      const text = readText(path);
      texts.set(path, text);
      return text;
    },
    maskedThreads: () => maskedAt(tickAt),
    hugePageSizes: () => {
      hugePages ??= readHugePageSizes(options.roots);
      return hugePages;
    },
  };

  /** The placement as it is now, or null when it is as it was told. */
  const look = (living: LivingInstance, now: number, why?: keyof Suspects): Placement | null => {
    const vcpus = vcpusOf(living);
    const place = placeOf(living, vcpus);
    const last = told.get(living);
    const isDue = last !== undefined && now - last.at >= dueSeconds;
    const asGiven = why === 'byTurns' && !isDue && (last?.looks ?? 0) % looksToGiven > 0;
    const known = asGiven ? last?.placement : undefined;
    const outline = readOutline(reader, place, hotTids(living), known);
    const served = living.totals.runNs + living.totals.waitNs;
    if (last && outline.taskCount === 0 && cgroupIdOf(reader.layout, living.path) === null) {
      // It is gone, and its end is told when its last totals are known.
      last.at = now;
      return null;
    }
    if (!last || !sameGiven(last.placement, outline) || !sameMasks(reader, last)) {
      const placement = readPlacement(reader, place, outline, toRead);
      told.set(living, { placement, at: now, served, looks: 0 });
      follow(living, placement);
      return placement;
    }
    last.looks += 1;
    const sameTasks = areSameTasks(last.placement, outline, vcpus);
    if (sameTasks && !isDue) return null;
    // Tasks that neither ran nor waited are where they were: their files need not be read.
    if (!sameTasks || last.served !== served || !hasRun(living.totals))
      last.placement = readPlacement(reader, place, outline, knownOf(last, vcpus, isDue));
    if (isDue) [last.at, last.served, last.looks] = [now, served, 0];
    follow(living, last.placement);
    return last.placement;
  };

  const follow = (living: LivingInstance, { cpuset }: Placement): void => {
    if (changes.follow(living, cpuset.path)) suspected.set(living, 'given');
  };

  const toRead = (): undefined => {
    tasksRead += 1;
  };

  /** Tasks as they were told, or, once it is time, as they have run since: all but those that are new, or may be otherwise now. */
  const knownOf = (last: Told, vcpus: ReadonlyMap<number, number>, isDue: boolean) => {
    const tasks = new Map(last.placement.tasks.map(task => [task.tid, task]));
    return (tid: number): PlacedTask | undefined => {
      const task = tasks.get(tid);
      if (!task || task.vcpu !== vcpus.get(tid)) return toRead();
      return isDue ? (nowOf(task, last.at) ?? toRead()) : task;
    };
  };

  /** A task as it is now, where that takes no reading of its files: a mask of its own may be another one by now. */
  const nowOf = (task: PlacedTask, toldAt: number): PlacedTask | undefined => {
    const since = runsSince(task.tid, toldAt);
    if (since === null) return undefined;
    if (since === 'rested') return task;
    if (task.ownMask !== false || maskedAt(tickAt - batchSeconds)?.has(task.tid) !== false)
      return undefined;
    return since.cpu === task.cpu ? task : { ...task, cpu: since.cpu };
  };

  const isTime = (now: number): boolean => now - refreshed >= refreshSeconds;

  const maySpend = (now: number): boolean => {
    if (now - spent.at >= almostASecond) spent = { at: now, placements: 0, tasks: 0 };
    return spent.placements < suspectsPerSecond.placements && spent.tasks < suspectsPerSecond.tasks;
  };

  return {
    isDue: now => (suspected.size > 0 && maySpend(now)) || isTime(now),
    due: (living, suspects, now) => {
      [tickAt, hugePages, tasksRead] = [now, undefined, 0];
      texts.clear();
      const refreshes = isTime(now);
      if (refreshes) refreshed = now;
      const toldBefore = refreshes ? now - dueSeconds : Number.NEGATIVE_INFINITY;
      const answers: { living: LivingInstance; placement: Placement }[] = [];
      const take = (one: LivingInstance): void => {
        const why = suspected.get(one);
        suspected.delete(one);
        const placement = look(one, now, why);
        if (placement) answers.push({ living: one, placement });
        else tasksRead += masksPerLook;
      };
      for (const one of suspects.byTurns)
        if (told.has(one) && !suspected.has(one)) suspected.set(one, 'byTurns');
      for (const one of suspects.given) if (told.has(one)) suspected.set(one, 'given');
      const { fresh, stale } = queuesOf(told, living, toldBefore);
      for (const one of [...suspected.keys()]) {
        if (!maySpend(now)) break;
        const before = tasksRead;
        take(one);
        spent.placements += 1;
        spent.tasks += tasksRead - before;
      }
      const bySuspects = { answers: answers.length, tasks: tasksRead };
      for (const one of [...fresh, ...stale]) {
        if (
          answers.length - bySuspects.answers >= mostPerTick ||
          tasksRead - bySuspects.tasks >= mostTasksPerTick
        ) {
          // The rest comes with the next tick.
          refreshed = Number.NEGATIVE_INFINITY;
          break;
        }
        // It was just read, as a suspect.
        if (told.get(one)?.at !== now) take(one);
      }
      return answers;
    },
    ended: gone =>
      gone.flatMap(living => {
        const last = told.get(living);
        told.delete(living);
        suspected.delete(living);
        changes.forget(living);
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

/** New ones, and those that were told so long ago, the longest first. */
function queuesOf(
  told: ReadonlyMap<LivingInstance, Told>,
  living: Iterable<LivingInstance>,
  toldBefore: number,
): Record<'fresh' | 'stale', readonly LivingInstance[]> {
  const fresh: LivingInstance[] = [];
  const stale: { living: LivingInstance; at: number }[] = [];
  for (const one of living) {
    const at = told.get(one)?.at;
    if (at === undefined) fresh.push(one);
    else if (at <= toldBefore) stale.push({ living: one, at });
  }
  stale.sort((a, b) => a.at - b.at);
  return { fresh, stale: stale.map(entry => entry.living) };
}

function sameGiven(last: Placement, now: Outline): boolean {
  if (last.cgroup === now.cgroup && last.cpuset === now.cpuset) return true;
  return JSON.stringify([last.cgroup, last.cpuset]) === JSON.stringify([now.cgroup, now.cpuset]);
}

function areSameTasks(last: Placement, now: Outline, vcpus: ReadonlyMap<number, number>): boolean {
  return (
    last.taskCount === now.taskCount &&
    last.tasks.length === now.tids.length &&
    last.tasks.every((task, i) => task.tid === now.tids[i] && task.vcpu === vcpus.get(task.tid))
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
