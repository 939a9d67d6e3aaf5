import { existsSync } from 'node:fs';
import { KernelInterfaceError } from '../contract/errors.ts';
import { parseCpuList } from './cpu-list.ts';
import { listFolders, readInode, readNumber, readText, type TextReader } from './read-file.ts';
import type { Roots } from './roots.ts';

/** The hierarchies of this host. On v1 `cpu` and `cpuset` are trees of their own, on v2 one tree is both. */
export type CgroupLayout = {
  readonly version: 1 | 2;
  /** Folder of the hierarchy that names instances and holds their weights. */
  readonly cpu: string;
  /** Folder of the hierarchy that holds cpusets; null where there is none. */
  readonly cpuset: string | null;
};

/**
 * Finds the hierarchies in /proc/self/mountinfo. A host with the cpu controller on v1 is a v1 host, whatever else is mounted.
 * @throws KernelInterfaceError KERNEL_MISSING when neither is mounted
 */
export function readCgroupLayout(roots: Roots): CgroupLayout {
  const { v1, v2 } = findHierarchies(roots);
  const cpu = v1('cpu');
  if (cpu !== null) return { version: 1, cpu, cpuset: v1('cpuset') };
  if (v2 !== null) {
    const controllers = readText(`${v2}/cgroup.controllers`)?.split(' ') ?? [];
    return { version: 2, cpu: v2, cpuset: controllers.includes('cpuset') ? v2 : null };
  }
  throw new KernelInterfaceError(
    'KERNEL_MISSING',
    'no cgroup hierarchy is mounted: wanted cgroup2, or cgroup v1 with the cpu controller',
    { path: `${roots.proc}/self/mountinfo`, remedy: 'mount -t cgroup2 none /sys/fs/cgroup' },
  );
}

/** Folders of the hierarchies that are mounted: of a v1 controller by its name, and of v2. Null: not mounted. */
export function findHierarchies(roots: Roots): {
  readonly v1: (controller: string) => string | null;
  readonly v2: string | null;
} {
  const mounts = (readText(`${roots.proc}/self/mountinfo`) ?? '').split('\n').map(parseMount);
  const at = (mount: { path: string } | null | undefined) =>
    mount?.path.replace(/^\/sys\/fs\/cgroup/, roots.cgroup) ?? null;
  return {
    v1: controller =>
      at(mounts.find(mount => mount?.type === 'cgroup' && mount.options.includes(controller))),
    v2: at(mounts.find(mount => mount?.type === 'cgroup2')),
  };
}

function parseMount(line: string): { path: string; type: string; options: string[] } | null {
  const [before, after] = line.split(' - ');
  const path = before?.split(' ')[4];
  const [type, , options] = after?.split(' ') ?? [];
  return path && type && options ? { path, type, options: options.split(',') } : null;
}

/** Folder of a cgroup in a hierarchy; `/` is the hierarchy's root. */
export function cgroupFolder(hierarchy: string, path: string): string {
  return path === '/' ? hierarchy : `${hierarchy}${path}`;
}

/** The cgroup above; null for the root. */
export function parentPath(path: string): string | null {
  return path === '/' ? null : path.slice(0, path.lastIndexOf('/')) || '/';
}

/** Weight in cgroup v2 units (100 is the default); null when the cgroup is gone or has none. */
export function readWeight(layout: CgroupLayout, path: string): number | null {
  const folder = cgroupFolder(layout.cpu, path);
  if (layout.version === 2) return readNumber(`${folder}/cpu.weight`);
  const shares = readNumber(`${folder}/cpu.shares`);
  return shares === null ? null : (shares * 100) / 1024;
}

/** Whether the cgroup is SCHED_IDLE as a whole; null where the kernel has no `cpu.idle` (before 5.15). */
export function readIdle(layout: CgroupLayout, path: string): boolean | null {
  const idle = readNumber(`${cgroupFolder(layout.cpu, path)}/cpu.idle`);
  return idle === null ? null : idle === 1;
}

/** The tightest CFS bandwidth quota of a cgroup and its ancestors, in cores; null: none. */
export function readQuotaCores(
  layout: CgroupLayout,
  path: string,
  read: TextReader = readText,
): number | null {
  let tightest: number | null = null;
  for (let at: string | null = path; at !== null; at = parentPath(at)) {
    const quota = ownQuotaCores(layout, cgroupFolder(layout.cpu, at), read);
    if (quota !== null && (tightest === null || quota < tightest)) tightest = quota;
  }
  return tightest;
}

function ownQuotaCores(layout: CgroupLayout, folder: string, read: TextReader): number | null {
  const [quota, period] =
    layout.version === 2
      ? (read(`${folder}/cpu.max`) ?? 'max').split(' ').map(Number)
      : [readNumber(`${folder}/cpu.cfs_quota_us`, read) ?? -1];
  if (quota === undefined || !(quota > 0)) return null;
  // On v1 a file of its own, which says nothing of most cgroups.
  const per = period ?? readNumber(`${folder}/cpu.cfs_period_us`, read) ?? 0;
  return per > 0 ? quota / per : null;
}

export type Cpuset = {
  readonly own: number[];
  readonly effective: number[];
  readonly parentEffective: number[];
};

/**
 * The cpuset of a cgroup in the cpuset hierarchy; empty lists where there is none. On v2 a cgroup for which the controller
 * is not enabled has no files, and is bound by the nearest cgroup above that has.
 */
export function readCpuset(
  layout: CgroupLayout,
  path: string,
  read: TextReader = readText,
): Cpuset {
  const { cpuset, version } = layout;
  if (cpuset === null) return { own: [], effective: [], parentEffective: [] };
  const file = version === 2 ? 'cpuset.cpus.effective' : 'cpuset.effective_cpus';
  const effective = (from: string): number[] => {
    for (let at: string | null = from; at !== null; at = parentPath(at)) {
      const text = read(`${cgroupFolder(cpuset, at)}/${file}`);
      if (text !== null) return parseCpuList(text) ?? [];
    }
    return [];
  };
  const own = read(`${cgroupFolder(cpuset, path)}/cpuset.cpus`);
  const bound = effective(path);
  const above = parentPath(path);
  return {
    own: parseCpuList(own ?? '') ?? [],
    effective: bound,
    parentEffective: above === null ? bound : effective(above),
  };
}

/** Whether a cgroup has a cpuset of its own to write: on v2 the controller may not be enabled for it. */
export function hasCpuset(layout: CgroupLayout, path: string): boolean {
  return layout.cpuset !== null && existsSync(`${cgroupFolder(layout.cpuset, path)}/cpuset.cpus`);
}

/** Threads directly in a cgroup of the cpu hierarchy; empty when it is gone. */
export function listCgroupTasks(layout: CgroupLayout, path: string): number[] {
  const folder = cgroupFolder(layout.cpu, path);
  const text = readText(`${folder}/${layout.version === 2 ? 'cgroup.threads' : 'tasks'}`);
  return text ? text.split('\n').map(Number) : [];
}

/** Processes in a cgroup; in a threaded one of v2, which does not tell them, its threads. Empty when it is gone. */
export function listCgroupProcesses(layout: CgroupLayout, path: string): number[] {
  const text = readText(`${cgroupFolder(layout.cpu, path)}/cgroup.procs`);
  if (text === null) return listCgroupTasks(layout, path);
  return text === '' ? [] : text.split('\n').map(Number);
}

/** Whether `path` is `above` or below it. */
export function isWithin(path: string, above: string): boolean {
  return above === '/' || path === above || path.startsWith(`${above}/`);
}

/** Inode of a cgroup's folder, which is its id in the kernel; null when it is gone, or cannot be reached. */
export function cgroupIdOf(layout: CgroupLayout, path: string): number | null {
  return readInode(cgroupFolder(layout.cpu, path));
}

/**
 * All cgroups under the root of the cpu hierarchy: id → path. Bounded: past `most` it stops and says so. What its owner hides (by a
 * mode, or by a path that is too long) is not among them, and hides nobody else's.
 */
export function walkCgroups(
  layout: CgroupLayout,
  most = 100_000,
): { paths: Map<number, string>; complete: boolean } {
  const paths = new Map<number, string>();
  const queue = ['/'];
  for (let i = 0; i < queue.length && paths.size < most; i += 1) {
    const path = queue[i] ?? '/';
    const id = cgroupIdOf(layout, path);
    if (id === null) continue;
    paths.set(id, path);
    // One by one: who may make cgroups can make more of them in one than a call may have arguments.
    for (const child of listChildren(layout, path)) queue.push(child);
  }
  return { paths, complete: paths.size < most };
}

/** A cgroup of the cpu hierarchy and all below it, the upper ones first; as many as a host may have. */
export function* walkBelow(layout: CgroupLayout, path: string, most = 100_000): Iterable<string> {
  const queue = [path];
  for (let i = 0; i < queue.length && i < most; i += 1) {
    const at = queue[i] ?? path;
    yield at;
    for (const child of listChildren(layout, at)) queue.push(child);
  }
}

/** Paths of the cgroups directly below one of the cpu hierarchy; empty when it is gone, or not readable. */
export function listChildren(layout: CgroupLayout, path: string): string[] {
  const children = listFolders(cgroupFolder(layout.cpu, path));
  return children.map(child => (path === '/' ? `/${child}` : `${path}/${child}`));
}
