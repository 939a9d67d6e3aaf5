import { describeError } from '../../contract/errors.ts';
import type { Clock, Say } from '../../contract/ports.ts';
import type { CgroupLayout } from '../../linux/cgroups.ts';
import { askQmp, parseCpus, qmpSocketOf } from '../../linux/qmp.ts';
import type { Roots } from '../../linux/roots.ts';
import { findQemu, readVcpuThreads, type VcpuThread, vcpuOf } from '../../linux/vcpus.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { createSayByReason } from '../say-limit.ts';

/** Why the vCPUs of a VM are not known. */
export type UnknownReason =
  /** No process of its cgroups is its QEMU (any more). */
  | 'no_qemu'
  /** QEMU names no threads (`debug-threads=on` is wanted) and has no QMP socket to ask. */
  | 'no_names_no_qmp'
  /** Its QMP socket did not answer: another client holds it, or it may not be used. */
  | 'qmp_silent'
  /** What QMP answered are no threads of it: it counts in another pid namespace. */
  | 'qmp_foreign';

/** Which threads run the vCPUs of each VM: by the names that QEMU gives them, else by asking QMP, else as KVM tells it. */
export type VcpuBook = {
  /**
   * Looks at VMs that are new, or were looked at longest ago: a few each time. Answers those of which something else is known than
   * before, also by an answer of QMP that came meanwhile. `now` is monotonic.
   */
  readonly look: (machines: readonly LivingInstance[], now: number) => LivingInstance[];
  /** Index by tid; empty when they are not known (yet). */
  readonly of: (living: LivingInstance) => ReadonlyMap<number, number>;
  readonly all: () => VcpuThread[];
  /** What KVM knows of a QEMU's threads, index by tid: it holds where QEMU itself tells nothing. */
  readonly learn: (
    living: LivingInstance,
    tgid: number,
    indexes: ReadonlyMap<number, number>,
  ) => void;
  /** VMs whose vCPUs QEMU itself does not tell: only KVM does. */
  readonly untold: () => number;
  /** VMs whose vCPUs are not known, by reason. */
  readonly unknown: () => Record<UnknownReason, number>;
};

type Entry = {
  threads: readonly VcpuThread[];
  indexes: ReadonlyMap<number, number>;
  /** QEMU itself told them. */
  byQemu: boolean;
  why: UnknownReason | null;
  /** Looks without a vCPU in a row: a QEMU that starts has none for a moment. */
  misses: number;
  nextLook: number;
  /** Since it was told last. */
  changed: boolean;
};

/** VMs that are looked at in one call: some 30 files of /proc each. */
const mostPerLook = 5;

/** A look that finds nothing is repeated after 2, 4, 8 … seconds; after so many of them the reason is said. */
const missesUntilSaid = 4;

const nothingToGoBy =
  'QEMU names no threads (-name …,debug-threads=on) and has no QMP socket (-qmp unix:…)';

const qmpLimits = { timeoutSeconds: 2, maxBytes: 1 << 20 };

export function createVcpuBook(options: {
  readonly roots: Roots;
  readonly layout: CgroupLayout;
  readonly intervalSeconds: number;
  readonly clock: Clock;
  readonly say: Say;
}): VcpuBook {
  const { roots, layout, intervalSeconds, clock, say } = options;
  const sayOnce = createSayByReason(clock, say);
  let book = new Map<LivingInstance, Entry>();

  const learn = (entry: Entry, threads: readonly VcpuThread[], byQemu: boolean): void => {
    entry.byQemu = byQemu;
    entry.changed ||= keyOf(threads) !== keyOf(entry.threads);
    entry.threads = threads;
    entry.indexes = new Map(threads.map(({ tid, index }) => [tid, index]));
    [entry.why, entry.misses] = [null, 0];
  };

  /** Nothing was learnt; what is known from before stands, but of a QEMU that has ended. */
  const miss = (living: LivingInstance, entry: Entry, why: UnknownReason, detail: string): void => {
    if (why === 'no_qemu' && entry.threads.length > 0) learn(entry, [], false);
    if (entry.threads.length === 0) entry.why = why;
    entry.misses += 1;
    if (entry.misses === missesUntilSaid && entry.threads.length === 0)
      sayOnce(
        why,
        `agent: ${living.instance.name}: its vCPUs are not known: ${detail} (sculptor.agent.vcpus.unknown counts such VMs)`,
      );
  };

  const ask = async (living: LivingInstance, entry: Entry, tgid: number, socket: string) => {
    try {
      const cpus = parseCpus(
        await askQmp(socket, 'query-cpus-fast', { ...qmpLimits, listener: tgid }),
      );
      const threads = readVcpuThreads(roots, tgid, tid => cpus.get(tid) ?? null);
      if (threads.length > 0) learn(entry, threads, true);
      else miss(living, entry, 'qmp_foreign', `${socket} tells threads that are not QEMU's`);
    } catch (error) {
      miss(living, entry, 'qmp_silent', describeError(error));
    }
  };

  const lookAt = (living: LivingInstance, entry: Entry): void => {
    const tgid = findQemu(roots, layout, living.members.values(), living.instance.id);
    if (tgid === null) {
      miss(living, entry, 'no_qemu', 'no process of its cgroup is its QEMU');
      return;
    }
    const named = readVcpuThreads(roots, tgid, (_, name) => vcpuOf(name));
    const socket = named.length > 0 ? null : qmpSocketOf(roots, tgid);
    if (named.length > 0) learn(entry, named, true);
    else if (socket !== null) void ask(living, entry, tgid, socket);
    else miss(living, entry, 'no_names_no_qmp', nothingToGoBy);
  };

  return {
    look: (machines, now) => {
      book = new Map(machines.map(living => [living, book.get(living) ?? newEntry()]));
      const due = [...book]
        .filter(([, { nextLook }]) => nextLook <= now)
        .sort(([, a], [, b]) => a.nextLook - b.nextLook);
      for (const [living, entry] of due.slice(0, mostPerLook)) {
        lookAt(living, entry);
        const known = entry.threads.length > 0 && entry.misses === 0;
        entry.nextLook =
          now + (known ? intervalSeconds : Math.min(2 ** entry.misses, intervalSeconds));
      }
      const changed = [...book].filter(([, entry]) => entry.changed);
      for (const [, entry] of changed) entry.changed = false;
      return changed.map(([living]) => living);
    },
    of: living => book.get(living)?.indexes ?? new Map(),
    all: () => [...book.values()].flatMap(({ threads }) => threads),
    learn: (living, tgid, indexes) => {
      const entry = book.get(living);
      if (entry && !entry.byQemu)
        learn(
          entry,
          readVcpuThreads(roots, tgid, tid => indexes.get(tid) ?? null),
          false,
        );
    },
    untold: () =>
      [...book.values()].filter(
        ({ byQemu, threads, why }) => !byQemu && (threads.length > 0 || why !== null),
      ).length,
    unknown: () => {
      const counts = { no_qemu: 0, no_names_no_qmp: 0, qmp_silent: 0, qmp_foreign: 0 };
      for (const { why } of book.values()) if (why !== null) counts[why] += 1;
      return counts;
    },
  };
}

function newEntry(): Entry {
  return {
    threads: [],
    indexes: new Map(),
    byQemu: false,
    why: null,
    misses: 0,
    nextLook: Number.NEGATIVE_INFINITY,
    changed: false,
  };
}

function keyOf(threads: readonly VcpuThread[]): string {
  return threads.map(({ index, tid, startTicks }) => `${index}:${tid}@${startTicks}`).join();
}
