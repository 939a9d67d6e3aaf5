import type { Move } from '../../contract/recommendation.ts';
import { cgroupFolder, listCgroupTasks, readCpuset, walkBelow } from '../../linux/cgroups.ts';
import { formatCpuList, parseCpuList } from '../../linux/cpu-list.ts';
import { readTaskCgroup } from '../../linux/procfs.ts';
import { readText } from '../../linux/read-file.ts';
import { readCpuIds } from '../../linux/topology.ts';
import type { Kernel } from '../kernel.ts';
import type { Actuator, UndoEntry } from './actuator.ts';
import {
  applyFiles,
  cgroupProblems,
  fileEntry,
  heldBy,
  problem,
  readBackFiles,
  undoFiles,
} from './cgroup-file.ts';
import { cpusOf, intersection, isWithin, offlineProblems } from './cpus.ts';

/** The CPUs of a cgroup as a whole: `cpuset.cpus` of the cgroup that holds exactly the tasks of the instance. */
export const cpusetActuator: Actuator = {
  validate: (kernel, move) => {
    const path = ownCpusetPath(kernel, move.instance.id);
    if (path === null) {
      return [problem('no-actuator', `instance ${move.instance.id}: it has no cpuset of its own`)];
    }
    const problems = cgroupProblems(kernel, path, 'cpuset.cpus');
    if (problems.length > 0) return problems;
    const { parentEffective } = readCpuset(kernel.layout, path);
    const outside = problem(
      'outside-parent',
      `cpuset ${path}: got CPUs ${formatCpuList(cpusOf(move))}; wanted some of its parent's, ${formatCpuList(parentEffective)}`,
    );
    return [
      ...offlineProblems(kernel, move),
      ...(isWithin(cpusOf(move), parentEffective) ? [] : [outside]),
    ];
  },
  snapshot: (kernel, move) => {
    const path = ownCpusetPath(kernel, move.instance.id) ?? move.instance.id;
    const wanted = formatCpuList(cpusOf(move));
    const { effective } = readCpuset(kernel.layout, path);
    return {
      entries: [fileEntry(kernel, 'cpuset', path, 'cpuset.cpus', wanted)],
      widens: !isWithin(cpusOf(move), effective),
    };
  },
  apply: (kernel, entries) => applyFiles(kernel, entries),
  readBack: (kernel, entries) =>
    readBackFiles(
      kernel,
      entries.map(entry => asKept(kernel, entry)),
    ),
  undo: (kernel, entries) =>
    undoFiles(
      kernel,
      entries.map(entry => asKept(kernel, entry)),
    ),
  dryRun: move => `set cpuset.cpus of ${move.instance.id} to ${formatCpuList(cpusOf(move))}`,
};

/** A parent grows before its children and shrinks after them (v1 refuses anything else); what widens goes before what narrows. */
export function cpusetOrder(entry: UndoEntry): number {
  const before = parseCpuList(entry.before) ?? [];
  const wanted = parseCpuList(entry.wanted) ?? [];
  const depth = entry.key.split('/').length;
  // 8192 CPUs at most, paths at most 4096 long: the depth stays a fraction of one step.
  return before.length > 0 && !isWithin(wanted, before) ? depth : 100_000 - depth;
}

/**
 * The kernel writes lists its own way, and on v1 takes a CPU that goes offline out of them for good, and refuses it from then on:
 * both sides are compared, and the old one is given back, as it would write them now.
 */
function asKept(kernel: Kernel, entry: UndoEntry): UndoEntry {
  const held = heldBy(kernel, entry);
  if (held === null) return entry;
  const online = kernel.layout.version === 1 ? readCpuIds(kernel.roots).online : null;
  const kept = (text: string) => {
    const cpus = parseCpuList(text) ?? [];
    const left = online === null ? cpus : intersection(cpus, online);
    return formatCpuList(left.length > 0 ? left : cpus);
  };
  return {
    ...entry,
    wanted: kept(entry.wanted) === kept(held) ? held : entry.wanted,
    before: online === null ? entry.before : kept(entry.before),
  };
}

/**
 * The cgroup in the cpuset hierarchy that holds the tasks of an instance and no others; null when there is none. On v1 that
 * is another tree than the one that names instances.
 */
export function ownCpusetPath(kernel: Kernel, instance: string): string | null {
  const { version, cpuset } = kernel.layout;
  if (cpuset === null || !instance.startsWith('/')) return null;
  if (version === 2) {
    return readText(`${cgroupFolder(cpuset, instance)}/cpuset.cpus`) === null ? null : instance;
  }
  const tasks = listCgroupTasks(kernel.layout, instance);
  const [first] = tasks;
  const path = first === undefined ? null : cpusetPathOf(kernel, first);
  if (path === null || path === '/') return null;
  const inCpuset = (readText(`${cgroupFolder(cpuset, path)}/tasks`) ?? '').split('\n').map(Number);
  const all = new Set(tasks);
  return inCpuset.length === all.size && inCpuset.every(tid => all.has(tid)) ? path : null;
}

/** Where a thread is in the cpuset hierarchy; null when it has ended. */
export function cpusetPathOf(kernel: Kernel, tid: number): string | null {
  const controller = kernel.layout.version === 2 ? '' : 'cpuset';
  return readTaskCgroup(kernel.roots, tid, controller);
}

/** A kernel before 6.2 throws own masks away when a cpuset changes: then a cpuset is only written where no thread has one. */
export function keepsOwnMasks(kernel: Kernel, move: Move): boolean {
  const masks = kernel.ownMasks();
  const path = ownCpusetPath(kernel, move.instance.id);
  if (path === null) return false;
  return boundBy(kernel, move.instance.id, path).every(([cgroup, cpuset]) => {
    const { effective } = readCpuset(kernel.layout, cpuset);
    return listCgroupTasks(kernel.layout, cgroup).every(tid => {
      const known = masks.get(tid)?.ownMask;
      return known !== null && known !== undefined
        ? true
        : isWithin(effective, affinityOf(kernel, tid) ?? effective);
    });
  });
}

/** Cgroups whose tasks a cpuset binds, and where the CPUs of each are told: on v2 those below it too. */
function boundBy(
  kernel: Kernel,
  instance: string,
  path: string,
): [cgroup: string, cpuset: string][] {
  if (kernel.layout.version === 1) return [[instance, path]];
  return [...walkBelow(kernel.layout, instance)].map(each => [each, each]);
}

/** The CPUs a thread may run on now; null when it has ended. */
export function affinityOf(kernel: Kernel, tid: number): number[] | null {
  try {
    return kernel.native.getAffinity(tid);
  } catch (error) {
    if ((error as { code?: string }).code === 'ESRCH') return null;
    throw error;
  }
}
