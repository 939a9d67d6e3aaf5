import type { Clock, Say } from '../../contract/ports.ts';
import {
  type CgroupLayout,
  cgroupIdOf,
  isWithin,
  listCgroupProcesses,
} from '../../linux/cgroups.ts';
import { type FoundVm, findVm, mostProcesses, processesLookedAt } from '../../linux/instance-at.ts';
import type { Roots } from '../../linux/roots.ts';
import { findQemu } from '../../linux/vcpus.ts';
import type { InstanceBook, LivingInstance } from '../instances/instances.ts';
import { createSayByReason } from '../say-limit.ts';

/** Why a QEMU is no VM: what its cgroup does cannot be told to be what it does, or it says that it is a VM that runs elsewhere. */
export type NoVmReason = 'shared_cgroup' | 'root_cgroup' | 'taken_uuid';

/** `left`: the life elsewhere that this VM's QEMU has left. */
type Recognised = FoundVm & { readonly left: LivingInstance | null };

/** Finds which cgroups are VMs. QEMUs that are no VM for where they are, are counted, and said once. */
export type VmFinder = {
  /** The VM that an instance turns out to be; null: none, or it is that one already. */
  readonly find: (living: LivingInstance) => Recognised | null;
  /** Whether a VM has had no QEMU for a while, though others run in its cgroup. */
  readonly hasLeft: (living: LivingInstance) => boolean;
  /** Whether it is worth another look, by the names of some of its threads. */
  readonly isCandidate: (
    living: LivingInstance,
    tasks: readonly { name: string; tgid: number }[],
  ) => boolean;
  /** QEMUs that are no VM, by reason. */
  readonly unknown: (living: Iterable<LivingInstance>) => Record<NoVmReason, number>;
};

type Unknown = { readonly reason: NoVmReason; readonly count: number; readonly since: number };

/**
 * Before a state counts: one that becomes a daemon is two until it has started, and may fork to run a script; one that ended may be started
 * again.
 */
const settledSeconds = 10;

export function createVmFinder(options: {
  readonly book: Pick<InstanceBook, 'named'>;
  readonly roots: Roots;
  readonly layout: CgroupLayout;
  readonly clock: Clock;
  readonly say: Say;
}): VmFinder {
  const { book, roots, layout, clock } = options;
  const say = createSayByReason(clock, options.say);
  const lookedAt = new WeakMap<LivingInstance, number>();
  const unknown = new WeakMap<LivingInstance, Unknown>();
  /** Since when a VM was seen without its QEMU. */
  const left = new WeakMap<LivingInstance, number>();
  /** Processes with threads of a QEMU's names. The root has hundreds of the kernel's own before them. */
  const seen = new WeakMap<LivingInstance, ReadonlySet<number>>();

  const seenIn = (living: LivingInstance): number[] => {
    const all = seen.get(living);
    if (!all) return [];
    const here = listCgroupProcesses(layout, living.path).filter(id => all.has(id));
    seen.set(living, new Set(here));
    return here;
  };

  const note = (living: LivingInstance, reason: NoVmReason, count: number, why: string): void => {
    const now = clock.monotonicSeconds();
    const { since = now } = unknown.get(living) ?? {};
    unknown.set(living, { reason, count, since });
    if (now - since < settledSeconds) return;
    say(reason, `agent: ${living.path}: ${why} (sculptor.agent.vms.unknown counts them)`);
  };

  const noteShared = (living: LivingInstance, qemus: number): void =>
    note(
      living,
      living.path === '/' ? 'root_cgroup' : 'shared_cgroup',
      // One of them may be the VM that was there first.
      living.instance.kind === 'vm' ? qemus - 1 : qemus,
      `QEMUs in this cgroup: ${qemus}; it is told as one, with what else is in it: to be told as a VM each wants a cgroup of its own, with none below it, such as systemd-run --scope makes`,
    );

  /** The life that a VM has in another tree of cgroups, and whether another QEMU than the one in `living` runs there. */
  const elsewhere = (living: LivingInstance, { instance: { id }, path }: FoundVm) => {
    const known = book.named(id);
    if (known?.instance.kind !== 'vm' || cgroupIdOf(layout, known.path) === null) return null;
    if (isWithin(path, known.path) || isWithin(known.path, path)) return null;
    const there = findQemu(roots, layout, known.members.values(), id);
    // One whose threads are in cgroups beside one another is one.
    if (there !== null && there === findQemu(roots, layout, [living.path], id)) return null;
    return { known, isTaken: there !== null };
  };

  return {
    find: living => {
      // A new one is looked at briefly: there are many, and few are VMs. So is one whose threads come and go all the time.
      const now = clock.monotonicSeconds();
      const isLongAgo = now - (lookedAt.get(living) ?? now) >= settledSeconds;
      const most = isLongAgo ? mostProcesses : processesLookedAt;
      if (isLongAgo || !lookedAt.has(living)) lookedAt.set(living, now);
      const { vm, qemus } = findVm(roots, layout, living.path, most, seenIn(living));
      const other = vm && elsewhere(living, vm);
      if (other?.isTaken) {
        const why = `a QEMU here says that it is ${vm?.instance.id}, as one in ${other.known.path} did before: it is told as what its cgroup is until that one has ended, for no two VMs can be one`;
        note(living, 'taken_uuid', 1, why);
        return null;
      }
      if (vm || qemus === 0) unknown.delete(living);
      else noteShared(living, qemus);
      const { kind, id } = living.instance;
      if (!vm || (kind === 'vm' && id === vm.instance.id)) return null;
      return { ...vm, left: other?.known ?? null };
    },
    hasLeft: living => {
      if (living.instance.kind !== 'vm') return false;
      const mayBeIn = (path: string): boolean =>
        listCgroupProcesses(layout, path).length > mostProcesses ||
        findVm(roots, layout, path, mostProcesses).qemus > 0;
      if ([...living.members.values()].some(mayBeIn)) {
        left.delete(living);
        return false;
      }
      const now = clock.monotonicSeconds();
      const since = left.get(living) ?? now;
      left.set(living, since);
      return now - since >= settledSeconds;
    },
    isCandidate: (living, tasks) => {
      const ofQemu = tasks.filter(({ name }) => /^(qemu|kvm$|CPU \d+\/)/.test(name));
      const isOfQemu = ofQemu.length > 0;
      if (isOfQemu)
        seen.set(living, new Set([...(seen.get(living) ?? []), ...ofQemu.map(({ tgid }) => tgid)]));
      if (unknown.has(living)) return true;
      if (living.instance.kind !== 'vm') return isOfQemu;
      // One that is switched off stays one; where others run on in its cgroup they are no VM.
      if (!isOfQemu && tasks.length > 0) return true;
      left.delete(living);
      return false;
    },
    unknown: living => {
      const counts = { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 0 };
      for (const one of living) {
        const { reason, count } = unknown.get(one) ?? {};
        if (reason) counts[reason] += count ?? 0;
      }
      return counts;
    },
  };
}
