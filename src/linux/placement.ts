import type { Owner, PlacedTask, Placement } from '../contract/host.ts';
import type { Instance } from '../contract/instance.ts';
import {
  type CgroupLayout,
  hasCpuset,
  isWithin,
  listCgroupTasks,
  parentPath,
  readCpuset,
  readIdle,
  readQuotaCores,
  readWeight,
} from './cgroups.ts';
import { type MemoryHierarchy, readHugePageSizes, readNodePages } from './memory.ts';
import { readTaskCgroup, readTaskStat, readTaskStatus } from './procfs.ts';
import type { TextReader } from './read-file.ts';
import type { Roots } from './roots.ts';

export type PlacementReader = {
  readonly roots: Roots;
  readonly layout: CgroupLayout;
  readonly hostId: string;
  /** Whether systemd runs as pid 1 and so owns the units it made. */
  readonly systemd: boolean;
  /** Absent, or null: where an instance's memory is is not told. */
  readonly memory?: MemoryHierarchy | null;
  /** As `readHugePageSizes`, which is asked where this is absent: of many instances one answer will do. */
  readonly hugePageSizes?: () => readonly string[];
  /** As `readText`, for what is given: cgroups of many instances have the same ones above them, and the same cpuset. */
  readonly read?: TextReader;
  /** Threads with a mask of their own, null when nobody tells; asked for each task that is read. */
  readonly maskedThreads: () => ReadonlySet<number> | null;
};

/** An instance, the cgroup that it is, and all cgroups that belong to it: for a VM those below its own as well. */
export type Place = {
  readonly instance: Instance;
  readonly path: string;
  readonly members: readonly string[];
  /** Which threads run vCPUs of it: index by tid. */
  readonly vcpus: ReadonlyMap<number, number>;
};

/** What an instance is given as a whole. */
export type Given = Pick<Placement, 'cgroup' | 'cpuset'>;

/** That, and which tasks it has: all of a placement that asks nothing of the tasks. */
export type Outline = Given & {
  readonly taskCount: number;
  /** The tasks to list, ascending. */
  readonly tids: readonly number[];
};

/** Most tasks that a placement lists; `taskCount` counts all. */
export const listedTasks = 200;

/** Tasks that are asked for their cpuset on v1. Who writes there looks at all of them again. */
const cpusetSample = 4;

/**
 * `hot`: tids that are listed before others. `known`: what it is given, which is then not read. A cgroup that is gone has no tasks,
 * and null for what it was given.
 */
export function readOutline(
  reader: PlacementReader,
  { instance, path, members }: Place,
  hot: readonly number[] = [],
  known?: Given,
): Outline {
  const { layout } = reader;
  const all = new Set(members.flatMap(member => listCgroupTasks(layout, member)));
  const tids = [...(all.size <= listedTasks ? all : chooseTasks(all, hot))].sort((a, b) => a - b);
  const { cgroup, cpuset } = known ?? readGiven(reader, path, tids, instance.kind === 'vm');
  return { cgroup, cpuset, taskCount: all.size, tids };
}

function readGiven(
  reader: PlacementReader,
  path: string,
  tids: readonly number[],
  vm: boolean,
): Given {
  const { layout, read } = reader;
  const cpusetPath = cpusetPathOf(reader, path, tids, vm);
  return {
    cgroup: {
      path,
      parent: parentPath(path),
      weight: readWeight(layout, path),
      idle: readIdle(layout, path),
      quotaCores: readQuotaCores(layout, path, read),
    },
    cpuset: {
      path: cpusetPath,
      ...readCpuset(layout, cpusetPath ?? (layout.version === 2 ? path : '/'), read),
    },
  };
}

/** The hot ones first. */
function chooseTasks(all: ReadonlySet<number>, hot: readonly number[]): ReadonlySet<number> {
  const chosen = new Set(hot.filter(tid => all.has(tid)).slice(0, listedTasks));
  for (const tid of all) {
    if (chosen.size >= listedTasks) break;
    chosen.add(tid);
  }
  return chosen;
}

/**
 * Where an instance is and what it is given now. Tasks that have ended since the outline was read are left out. `known`: what
 * is known of a task as it is, so that its files need not be read.
 */
export function readPlacement(
  reader: PlacementReader,
  place: Place,
  { tids, ...given }: Outline = readOutline(reader, place),
  known: (tid: number) => PlacedTask | undefined = () => undefined,
): Placement {
  return {
    hostId: reader.hostId,
    instance: place.instance,
    owner: ownerOf(reader, place.path),
    alive: true,
    ...given,
    tasks: tids.flatMap(
      tid => known(tid) ?? readPlacedTask(reader, tid, place.vcpus.get(tid)) ?? [],
    ),
    ...readBytesByNode(reader, place),
  };
}

function readBytesByNode(
  { memory, roots, hugePageSizes = () => readHugePageSizes(roots) }: PlacementReader,
  { path, instance }: Place,
): Pick<Placement, 'bytesByNode'> {
  const pages = memory
    ? readNodePages(memory, path, instance.kind === 'vm', hugePageSizes())
    : null;
  if (pages === null) return {};
  const bytesByNode: Record<string, number> = {};
  for (const nodes of pages.values())
    for (const [node, bytes] of nodes) bytesByNode[node] = (bytesByNode[node] ?? 0) + bytes;
  return { bytesByNode };
}

/**
 * Where the cpuset of an instance is. On v2 in its own cgroup, if the controller is enabled there; on v1 in another tree, where
 * its tasks are if they are all in one place, or, as libvirt does it with a VM's, all below one.
 */
function cpusetPathOf(
  reader: PlacementReader,
  path: string,
  tids: readonly number[],
  vm: boolean,
): string | null {
  const { layout, roots } = reader;
  if (layout.cpuset === null) return null;
  if (layout.version === 2) return hasCpuset(layout, path) ? path : null;
  const step = Math.max(1, Math.ceil(tids.length / cpusetSample));
  const paths = new Set(
    tids.flatMap((tid, i) => (i % step === 0 ? (readTaskCgroup(roots, tid, 'cpuset') ?? []) : [])),
  );
  const [first] = paths;
  if (first === undefined || paths.size === 1 || !vm)
    return paths.size === 1 ? (first ?? null) : null;
  let common: string | null = first;
  while (common !== null && ![...paths].every(each => isWithin(each, common ?? '/')))
    common = parentPath(common);
  return common === '/' ? null : common;
}

function readPlacedTask(
  { roots, maskedThreads }: PlacementReader,
  tid: number,
  vcpu: number | undefined,
): PlacedTask | null {
  const stat = readTaskStat(roots, tid);
  const status = readTaskStatus(roots, tid);
  if (!stat || !status) return null;
  return {
    tid,
    tgid: status.tgid,
    startTicks: stat.startTicks,
    name: stat.name,
    ...(vcpu === undefined ? {} : { vcpu }),
    affinity: status.allowedCpus,
    ownMask: maskedThreads()?.has(tid) ?? null,
    cpu: stat.cpu,
  };
}

const containerPath = /(^|\/)(docker|crio|cri-containerd|libpod|kubepods)[^/]*/;

/**
 * Whose this cgroup is, judged by its path: its own API is to be asked before its files are written. What is below a unit is
 * shared out by whoever runs in it, within what systemd gives to the unit.
 */
export function ownerOf(reader: { systemd: boolean }, path: string): Owner {
  if (containerPath.test(path)) return 'container-runtime';
  if (/(^|\/)machine(\.slice)?\/.*(libvirt|qemu)/.test(path)) return 'libvirt';
  return reader.systemd && /\.(slice|scope|service)(\/|$)/.test(path) ? 'systemd' : 'none';
}
