import { ActuationError } from '../../contract/errors.ts';
import type { Move } from '../../contract/recommendation.ts';
import { cgroupFolder, readCpuset } from '../../linux/cgroups.ts';
import { formatCpuList, parseCpuList } from '../../linux/cpu-list.ts';
import { readTaskCgroup } from '../../linux/procfs.ts';
import { readText } from '../../linux/read-file.ts';
import { readCpuIds } from '../../linux/topology.ts';
import { bootTicks, type Kernel } from '../kernel.ts';
import type { Actuator, Problem, UndoEntry, UndoResult } from './actuator.ts';
import { undoBorn } from './born.ts';
import { ownerProblem, problem } from './cgroup-file.ts';
import { cpusOf, isWithin, offlineProblems } from './cpus.ts';
import { affinityOf, cpusetPathOf } from './cpuset.ts';
import { shownMasks } from './shown-mask.ts';
import { resolveTasks, type Thread, threadsOf } from './tasks.ts';

/**
 * The CPU masks of threads. A thread without a mask of its own gets all possible CPUs back, so that it follows a later
 * widening of its cpuset; the entry `born` stands for the threads that are made while the action holds.
 * @see https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html
 */
export const affinityActuator: Actuator = {
  validate: (kernel, move) => {
    const owned = move.instance.id.startsWith('/') ? ownerProblem(kernel, move.instance.id) : null;
    if (owned) return [owned];
    if (move.instance.id === '/') return [problem('protected', 'the root cgroup is never moved')];
    const { threads, problems, cgroups } = resolveTasks(kernel, move);
    return [
      ...problems,
      ...ownerProblems(kernel, move, threads, cgroups),
      ...offlineProblems(kernel, move),
      ...outsideProblems(kernel, move, threads),
    ];
  },
  snapshot: (kernel, move) => {
    const { threads, cgroups } = resolveTasks(kernel, move);
    const wanted = formatCpuList(cpusOf(move));
    const asked = askedMasks(kernel);
    let widens = false;
    const entries = threads.flatMap(thread => {
      const seen = affinityOf(kernel, thread.tid);
      if (seen === null) return [];
      if (!isWithin(cpusOf(move), seen)) widens = true;
      return threadEntry(ownMaskKnown(kernel, thread, seen), asked(thread, seen), wanted);
    });
    return { entries: [bornEntry(kernel, cgroups, wanted), ...entries], widens };
  },
  latecomers: (kernel, move, known) => {
    const seen = new Set(known.map(entry => entry.resource));
    const wanted = formatCpuList(cpusOf(move));
    const asked = askedMasks(kernel);
    return resolveTasks(kernel, move).threads.flatMap(thread => {
      if (seen.has(`affinity:${thread.tid}@${thread.startTicks}`)) return [];
      const cpus = affinityOf(kernel, thread.tid);
      // One with our mask has inherited it: that is no old value to give back, and the sweep finds it.
      if (cpus === null || formatCpuList(cpus) === wanted) return [];
      return threadEntry(thread, asked(thread, cpus), wanted);
    });
  },
  apply: (kernel, entries) => {
    const threads = entries.filter(entry => entry.kind === 'affinity');
    const alive = stillThere(kernel, threads);
    for (const [wanted, group] of groupBy(alive, entry => entry.wanted)) {
      const errors = kernel.native.setAffinity(
        Int32Array.from(group, entry => Number(entry.key)),
        Int32Array.from(parseCpuList(wanted) ?? []),
      );
      errors.forEach((errno, i) => {
        const entry = group[i];
        if (errno === 0 || errno === ESRCH || !entry) return;
        throw new ActuationError(
          'ACTUATION_WRITE',
          `${entry.resource}: the kernel refused CPUs ${wanted} with errno ${errno}`,
          { resource: entry.resource, attempted: wanted, previous: entry.before, errno },
        );
      });
    }
  },
  readBack: (kernel, entries) => {
    const alive = new Set(stillThere(kernel, entries));
    const showsAs = comparison(kernel);
    const writeList = listWriter();
    return entries.map(entry => {
      if (entry.kind === 'born') return { held: entry.wanted, ours: true };
      const held = alive.has(entry) ? affinityOf(kernel, Number(entry.key)) : null;
      if (held === null) return { held: null, ours: true };
      const text = writeList(held);
      return { held: text, ours: showsAs(entry, entry.wanted, text) };
    });
  },
  undo: (kernel, entries, all) => {
    const results = new Map<UndoEntry, UndoResult>();
    undoThreads(
      kernel,
      entries.filter(entry => entry.kind === 'affinity'),
      results,
    );
    for (const entry of entries) {
      if (entry.kind === 'born') results.set(entry, undoBorn(kernel, entry, all));
    }
    return entries.map(entry => results.get(entry) ?? gone(entry));
  },
  dryRun: move =>
    `set the affinity of ${move.tasks.length || 'all'} tasks of ${move.instance.id} to ${formatCpuList(cpusOf(move))}`,
};

const ESRCH = 3;

function threadEntry(thread: Thread, before: string, wanted: string): UndoEntry {
  return {
    resource: `affinity:${thread.tid}@${thread.startTicks}`,
    kind: 'affinity',
    key: String(thread.tid),
    identity: thread.startTicks,
    before,
    wanted,
    ownMask: thread.ownMask,
    tgid: thread.tgid,
  };
}

/** A mask that we gave ourselves, and that still shows all of the cpuset, is no mask of its own. */
function ownMaskKnown(kernel: Kernel, thread: Thread, before: readonly number[]): Thread {
  if (thread.ownMask !== true || !kernel.relaxed?.(thread.tid, thread.startTicks)) return thread;
  const path = cpusetPathOf(kernel, thread.tid);
  const effective = path === null ? [] : readCpuset(kernel.layout, path).effective;
  return isWithin(effective, before) ? { ...thread, ownMask: false } : thread;
}

function bornEntry(kernel: Kernel, cgroups: readonly string[], wanted: string): UndoEntry {
  const identity = bootTicks(kernel.roots);
  return {
    resource: `born:${cgroups.join(',')}@${identity}`,
    kind: 'born',
    key: JSON.stringify(cgroups),
    identity,
    before: '',
    wanted,
    ownMask: null,
    tgid: 0,
  };
}

/** Threads may be in other cgroups than the instance: those of a VM, whose UUID is none, and classes of those below it. */
function ownerProblems(
  kernel: Kernel,
  { instance }: Move,
  threads: readonly Thread[],
  cgroups: readonly string[],
): Problem[] {
  const controller = kernel.layout.version === 2 ? '' : 'cpu';
  const paths =
    instance.kind === 'vm' || !instance.id.startsWith('/')
      ? threads.map(({ tid }) => readTaskCgroup(kernel.roots, tid, controller) ?? '/')
      : cgroups;
  return [...new Set(paths)].flatMap(path => ownerProblem(kernel, path) ?? []);
}

/** Each thread's cpuset must allow the CPUs: the kernel would cut the mask silently. */
function outsideProblems(kernel: Kernel, move: Move, threads: readonly Thread[]): Problem[] {
  return cpusetsOf(kernel, threads).flatMap(path => {
    const { effective } = readCpuset(kernel.layout, path);
    if (effective.length === 0 || isWithin(cpusOf(move), effective)) return [];
    const message = `cpuset ${path} of ${move.instance.id}: got CPUs ${formatCpuList(cpusOf(move))}; wanted some of ${formatCpuList(effective)}`;
    return problem('outside-parent', message);
  });
}

/** The cpusets that threads are in. One list of tasks for each, since a file of each thread costs a thousand reads. */
function cpusetsOf(kernel: Kernel, threads: readonly Thread[]): string[] {
  const { cpuset, version } = kernel.layout;
  const paths = new Set<string>();
  let left = [...threads];
  while (cpuset !== null && left.length > 0) {
    const [first, ...others] = left;
    const path = first ? cpusetPathOf(kernel, first.tid) : null;
    left = others;
    if (path === null) continue;
    paths.add(path);
    const file = `${cgroupFolder(cpuset, path)}/${version === 2 ? 'cgroup.threads' : 'tasks'}`;
    const members = new Set((readText(file) ?? '').split('\n').map(Number));
    left = others.filter(thread => !members.has(thread.tid));
  }
  return [...paths];
}

/** Entries whose tid still means the same task. */
function stillThere(kernel: Kernel, entries: readonly UndoEntry[]): UndoEntry[] {
  const wanted = entries.filter(entry => entry.kind === 'affinity');
  const now = threadsOf(
    kernel,
    kernel.ownMasks(),
    wanted.map(entry => Number(entry.key)),
  );
  const ticks = new Map(now.map(thread => [thread.tid, thread.startTicks]));
  return wanted.filter(entry => ticks.get(Number(entry.key)) === entry.identity);
}

function undoThreads(
  kernel: Kernel,
  entries: readonly UndoEntry[],
  results: Map<UndoEntry, UndoResult>,
): void {
  const possible = readCpuIds(kernel.roots).possible;
  const showsAs = comparison(kernel);
  const writeList = listWriter();
  const masks = kernel.ownMasks();
  const ours = stillThere(kernel, entries).filter(entry => {
    const held = affinityOf(kernel, Number(entry.key));
    if (held === null) return false;
    const text = writeList(held);
    // Nobody can take a mask of its own away again: one that has none was never touched.
    const untouched = entry.ownMask === false && masks.get(Number(entry.key))?.ownMask === false;
    const mine = showsAs(entry, entry.wanted, text);
    if (untouched || (!mine && showsAs(entry, entry.before, text))) {
      results.set(entry, { state: 'restored', message: `${entry.resource}: ${text}` });
      return false;
    }
    if (mine) return true;
    results.set(entry, {
      state: 'yielded',
      message: `${entry.resource}: is "${text}", we wrote "${entry.wanted}": left to whoever changed it`,
    });
    return false;
  });
  const target = (entry: UndoEntry) =>
    entry.ownMask === false ? formatCpuList(possible) : entry.before;
  for (const [cpus, group] of groupBy(ours, target)) {
    const errors = kernel.native.setAffinity(
      Int32Array.from(group, entry => Number(entry.key)),
      Int32Array.from(parseCpuList(cpus) ?? []),
    );
    group.forEach((entry, i) => {
      const errno = errors[i] ?? 0;
      if (errno === ESRCH) results.set(entry, gone(entry));
      else if (errno === 0)
        results.set(entry, { state: 'restored', message: `${entry.resource}: ${cpus}` });
      else
        results.set(entry, {
          state: 'failed',
          message: `${entry.resource}: the kernel refused CPUs ${cpus} with errno ${errno}`,
        });
    });
  }
}

function gone(entry: UndoEntry): UndoResult {
  return { state: 'gone', message: `${entry.resource}: ended` };
}

/** Whether what a thread shows is a mask, or what is left of it now. */
function comparison(kernel: Kernel): (entry: UndoEntry, mask: string, text: string) => boolean {
  const shown = shownMasks(kernel);
  return ({ key, tgid }, mask, text) =>
    text === mask || text === shown({ tid: Number(key), tgid }, mask);
}

/**
 * The mask to give back to a thread: the one that it asked for, of which its cpuset hides a part, so that it follows a later
 * widening; as it is seen where the two do not belong together (it was changed just now), or the cpuset leaves nothing of it.
 */
function askedMasks(kernel: Kernel): (thread: Thread, seen: readonly number[]) => string {
  const shown = shownMasks(kernel);
  const writeList = listWriter();
  return (thread, seen) => {
    const text = writeList(seen);
    if (thread.asked === null || !isWithin(seen, thread.asked)) return text;
    const asked = writeList(thread.asked);
    return asked !== text && shown(thread, asked) === text ? asked : text;
  };
}

/** Threads mostly share a few masks: each is written out once. */
function listWriter(): (cpus: readonly number[]) => string {
  const seen = new Map<string, string>();
  return cpus => {
    const key = cpus.join();
    const text = seen.get(key) ?? formatCpuList(cpus);
    seen.set(key, text);
    return text;
  };
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  return Map.groupBy(items, key);
}
