import type { Instance } from '../../contract/instance.ts';
import { type CgroupLayout, cgroupIdOf, isWithin, walkCgroups } from '../../linux/cgroups.ts';
import { type FoundVm, instanceAt } from '../../linux/instance-at.ts';
import type { SchedTotals } from '../probes/sched-layout.ts';
import { addChange, emptyTotals } from './add-change.ts';

/** One life of an instance: from when it was first seen until its last cgroup is gone. */
export type LivingInstance = {
  readonly instance: Instance;
  /** Its own cgroup, in the hierarchy that names instances. */
  readonly path: string;
  /** The cgroups that belong to it: kernel id → path. More than one only for a VM. */
  readonly members: Map<number, string>;
  /** Seconds since the epoch: start time of its cumulative series. */
  readonly start: number;
  /** Since `start`, over all members; never falls, also when a member goes. */
  readonly totals: SchedTotals;
  /** Change over the last read, in cores. */
  readonly window: { usedCores: number; waitCores: number; throttledCores: number };
};

export type InstanceBook = {
  /** Instances whose end was not told yet. */
  readonly living: () => IterableIterator<LivingInstance>;
  /**
   * Lives whose id another one has by now, since their cgroup was made anew under its name: they have no place any more, and their end is told
   * by `retire`, when all that is charged to them was read.
   */
  readonly superseded: () => ReadonlySet<LivingInstance>;
  /** The instance that a cgroup belongs to. */
  readonly of: (cgroupId: number) => LivingInstance | undefined;
  readonly size: () => number;
  /**
   * Takes a reading of the kernel's totals; `before` is when the last one was made (seconds since the epoch), and so when
   * what is new began at the earliest. Answers the instances that are new.
   */
  readonly take: (
    totals: ReadonlyMap<number, SchedTotals>,
    before: number,
    elapsedSeconds: number,
  ) => LivingInstance[];
  /** The living instance of an id. */
  readonly named: (instanceId: string) => LivingInstance | undefined;
  /** Makes an instance and all below the VM's cgroup one: the VM. Answers the lives that end by it, and had been seen before. */
  readonly becomeVm: (living: LivingInstance, vm: FoundVm, now: number) => LivingInstance[];
  /** Makes each cgroup of what was a VM an instance of its own again. Answers the life that ends by it. */
  readonly endVm: (machine: LivingInstance, now: number) => LivingInstance[];
  /** Looks which cgroups are gone, where some may be, and now and then. What is charged to them meanwhile still counts, until `retire`. */
  readonly sweep: (mayBeGone: boolean) => void;
  /**
   * Lets go of what is gone for long enough: the probes are to forget these cgroups (id → the life it belonged to, null
   * when it was never named), and the end of the lives is to be told.
   */
  readonly retire: () => {
    gone: Map<number, LivingInstance | null>;
    ended: LivingInstance[];
  };
  /** Ids whose cgroup was gone before it could be named: their time is lost. One that goes on running is counted each time it is looked for. */
  readonly unnamed: () => number;
};

type Member = {
  living: LivingInstance;
  /** As of the last reading; the reading's own are not kept. */
  readonly last: SchedTotals;
  gone: boolean;
  readsSinceGone: number;
};

/**
 * A task that exits is charged to its cgroup until its very last switch, after the cgroup may have been removed. No other cgroup has
 * its id by then: the kernel hands ids out in turn, and counts the turns in their upper half (__kernfs_new_node). If one had, what
 * it did within the grace would be the first one's.
 */
const graceReads = 3;

/** Of so many sweeps one looks although nothing has been seen to go. */
const sweepsToLook = 10;

/** An id without a name whose totals stand still for so many reads is forgotten: the kernel's map must not fill up. */
const unnamedReads = 50;

/**
 * One that goes on running is looked for again after so many: all at once, since each look walks the hierarchy. In a container whole
 * trees have no names.
 */
const unnamedLookReads = 1500;

/**
 * A walk takes some 25 µs for each cgroup, whoever made it, and rests for five times as long: as many as a host has of its own are named
 * with each reading, and who makes thousands more takes a sixth of a CPU at most.
 */
const restSecondsPerCgroup = 125e-6;

/** Names what the kernel counted: cgroup id → path → instance. The hierarchy is walked only when an id is unknown. */
export function createInstanceBook(layout: CgroupLayout): InstanceBook {
  const members = new Map<number, Member>();
  const byInstance = new Map<string, LivingInstance>();
  /** Ids without a name. `reads`: for so many its totals stood still. */
  const unknown = new Map<number, { runNs: number; reads: number }>();
  let readsUntilLook = unnamedLookReads;
  let restSeconds = 0;
  /** When those that wait for a walk began at the earliest; null: nobody waits. */
  let waitSince: number | null = null;
  const superseded = new Set<LivingInstance>();
  /** Of the last reading: nothing was told of them yet. */
  let newborn: ReadonlySet<LivingInstance> = new Set();
  let unnamed = 0;
  let sweeps = 0;

  const begin = (instance: Instance, path: string, start: number): LivingInstance => {
    const window = { usedCores: 0, waitCores: 0, throttledCores: 0 };
    const living = { instance, path, start, members: new Map(), totals: emptyTotals(), window };
    const former = byInstance.get(instance.id);
    if (former) supersede(former);
    byInstance.set(instance.id, living);
    return living;
  };

  const supersede = (living: LivingInstance): void => {
    byInstance.delete(living.instance.id);
    superseded.add(living);
    for (const id of living.members.keys()) {
      const member = members.get(id);
      if (member?.living === living) member.gone = true;
      else living.members.delete(id);
    }
  };

  const join = (living: LivingInstance, id: number, path: string, last: SchedTotals): void => {
    living.members.set(id, path);
    members.set(id, { living, last, gone: false, readsSinceGone: 0 });
  };

  const nameUnknown = (ids: readonly number[], start: number): LivingInstance[] => {
    const { paths } = walkCgroups(layout);
    restSeconds = paths.size * restSecondsPerCgroup;
    const born: LivingInstance[] = [];
    for (const id of ids) {
      const path = paths.get(id);
      if (path === undefined) {
        unnamed += 1;
        unknown.set(id, { runNs: 0, reads: 0 });
        continue;
      }
      const vm = [...byInstance.values()].find(
        // Below the cgroup of one without a UUID is somebody else (`findVm`).
        one =>
          one.instance.kind === 'vm' &&
          one.instance.id !== one.path &&
          isWithin(path, one.path) &&
          isThere(layout, one),
      );
      const living = vm ?? begin(instanceAt(path), path, start);
      join(living, id, path, emptyTotals());
      if (!vm) born.push(living);
    }
    return born;
  };

  return {
    living: () => byInstance.values(),
    of: id => members.get(id)?.living,
    named: id => byInstance.get(id),
    size: () => byInstance.size,
    superseded: () => superseded,
    take: (totals, before, elapsedSeconds) => {
      // Five times a second: `forEach` makes no object for each entry.
      byInstance.forEach(({ window }) => {
        window.usedCores = 0;
        window.waitCores = 0;
        window.throttledCores = 0;
      });
      const ids: number[] = [];
      totals.forEach((_, id) => {
        if (!members.has(id) && !unknown.has(id)) ids.push(id);
      });
      restSeconds -= elapsedSeconds;
      const named = new Set(restSeconds > 0 ? [] : ids);
      const since = waitSince ?? before;
      waitSince = named.size < ids.length ? since : null;
      const born = named.size > 0 ? nameUnknown(ids, since) : [];
      newborn = new Set(born);
      totals.forEach((next, id) => {
        const member = members.get(id);
        const waited = named.has(id) ? before - since : 0;
        if (member) charge(member, next, elapsedSeconds + waited);
        const nameless = unknown.get(id);
        if (!nameless) return;
        nameless.reads = nameless.runNs === next.runNs ? nameless.reads + 1 : 0;
        nameless.runNs = next.runNs;
      });
      members.forEach(member => {
        if (member.gone) member.readsSinceGone += 1;
      });
      return born;
    },
    becomeVm: (living, vm, now) => {
      const start = newborn.has(living) ? living.start : now;
      const former = byInstance.get(vm.instance.id);
      // One that was started again at once has the id of one that is gone, though that was not seen yet.
      if (former?.instance.kind === 'vm' && !isThere(layout, former)) supersede(former);
      const before = [...byInstance.values()];
      const known = byInstance.get(vm.instance.id);
      const isVm = known?.instance.kind === 'vm';
      // Without a UUID it has the id of its cgroup, which is one of those that become it.
      if (!isVm) byInstance.delete(vm.instance.id);
      const machine = isVm ? known : begin(vm.instance, vm.path, start);
      const ended: LivingInstance[] = [];
      for (const one of before) {
        const belongs = one === living || isWithin(one.path, vm.path);
        if (one === machine || !belongs) continue;
        for (const [id, path] of one.members) {
          const member = members.get(id);
          if (member) join(machine, id, path, member.last);
        }
        if (newborn.has(one)) addChange(machine.totals, emptyTotals(), one.totals);
        else ended.push(one);
        if (byInstance.get(one.instance.id) === one) byInstance.delete(one.instance.id);
      }
      return ended;
    },
    endVm: (machine, now) => {
      byInstance.delete(machine.instance.id);
      for (const [id, path] of machine.members) {
        const member = members.get(id);
        if (member) join(begin(instanceAt(path), path, now), id, path, member.last);
      }
      return [machine];
    },
    sweep: mayBeGone => {
      const isTime = sweeps % sweepsToLook === 0;
      sweeps += 1;
      if (!mayBeGone && !isTime) return;
      for (const [id, member] of members) {
        if (member.gone) continue;
        const path = member.living.members.get(id);
        if (path === undefined || cgroupIdOf(layout, path) !== id) member.gone = true;
      }
    },
    retire: () => {
      const gone = new Map<number, LivingInstance | null>();
      const ended: LivingInstance[] = [];
      members.forEach(({ living, readsSinceGone }, id) => {
        if (readsSinceGone <= graceReads) return;
        gone.set(id, living);
        members.delete(id);
        living.members.delete(id);
        if (living.members.size > 0 || byInstance.get(living.instance.id) !== living) return;
        byInstance.delete(living.instance.id);
        ended.push(living);
      });
      for (const living of superseded) {
        if (living.members.size > 0) continue;
        superseded.delete(living);
        ended.push(living);
      }
      readsUntilLook -= 1;
      const isLook = readsUntilLook === 0;
      if (isLook) readsUntilLook = unnamedLookReads;
      for (const [id, { reads }] of unknown) {
        if (reads < unnamedReads && !isLook) continue;
        gone.set(id, null);
        unknown.delete(id);
      }
      return { gone, ended };
    },
    unnamed: () => unnamed,
  };
}

/** Whether a life's cgroup is there, as it was: one that was made again under its name has none of its members. */
function isThere(layout: CgroupLayout, { path, members }: LivingInstance): boolean {
  const isMember = ([id, member]: [number, string]) => cgroupIdOf(layout, member) === id;
  return cgroupIdOf(layout, path) !== null && [...members].some(isMember);
}

function charge(member: Member, next: SchedTotals, elapsedSeconds: number): void {
  const { living, last } = member;
  const cores = 1e-9 / elapsedSeconds;
  const change = addChange(living.totals, last, next);
  living.window.usedCores += change.runNs * cores;
  living.window.waitCores += change.waitNs * cores;
  living.window.throttledCores += change.throttledNs * cores;
  last.runNs = next.runNs;
  last.waitNs = next.waitNs;
  last.throttledNs = next.throttledNs;
}
