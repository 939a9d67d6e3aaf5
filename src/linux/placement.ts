import type { Owner, PlacedTask, Placement } from '../contract/host.ts';
import type { Instance } from '../contract/instance.ts';
import {
  type CgroupLayout,
  listCgroupTasks,
  parentPath,
  readCpuset,
  readIdle,
  readQuotaCores,
  readWeight,
} from './cgroups.ts';
import type { OwnMask } from './own-masks.ts';
import { readTaskCgroups, readTaskStat, readTaskStatus } from './procfs.ts';
import type { Roots } from './roots.ts';

export type PlacementReader = {
  readonly roots: Roots;
  readonly layout: CgroupLayout;
  readonly hostId: string;
  /** Whether systemd runs as pid 1 and so owns the units it made. */
  readonly systemd: boolean;
  readonly ownMasks: () => ReadonlyMap<number, OwnMask>;
};

/** Most tasks that a placement lists; `taskCount` counts all. */
export const listedTasks = 200;

/**
 * Where an instance is and what it is given now. Tasks that end while this reads are left out.
 * `tids`: the tasks to list first (the hottest); the rest is filled up from the cgroup.
 */
export function readPlacement(
  reader: PlacementReader,
  instance: Instance,
  path: string,
  tids: readonly number[] = [],
): Placement {
  const { roots, layout } = reader;
  const all = listCgroupTasks(layout, path);
  const listed = [...new Set([...tids, ...all])].slice(0, listedTasks);
  const masks = listed.length > 0 ? reader.ownMasks() : new Map<number, OwnMask>();
  const cpusetPath = cpusetPathOf(reader, path, listed);
  return {
    hostId: reader.hostId,
    instance,
    owner: ownerOf(reader, path),
    alive: true,
    cgroup: {
      path,
      parent: parentPath(path),
      weight: readWeight(layout, path),
      idle: readIdle(layout, path),
      quotaCores: readQuotaCores(layout, path),
    },
    cpuset: { path: cpusetPath, ...readCpuset(layout, cpusetPath ?? '/') },
    tasks: listed.flatMap(tid => readPlacedTask(roots, tid, masks) ?? []),
    taskCount: all.length,
  };
}

/** On v2 the same cgroup; on v1 another tree, in which the instance is where its tasks are, if all are in one place. */
function cpusetPathOf(
  reader: PlacementReader,
  path: string,
  tids: readonly number[],
): string | null {
  if (reader.layout.cpuset === null) return null;
  if (reader.layout.version === 2) return path;
  const paths = new Set(
    tids.flatMap(tid => readTaskCgroups(reader.roots, tid)?.get('cpuset') ?? []),
  );
  const [only] = paths;
  return paths.size === 1 && only !== undefined ? only : null;
}

function readPlacedTask(
  roots: Roots,
  tid: number,
  masks: ReadonlyMap<number, OwnMask>,
): PlacedTask | null {
  const stat = readTaskStat(roots, tid);
  const status = readTaskStatus(roots, tid);
  if (!stat || !status) return null;
  const vcpu = /^CPU (\d+)\/(KVM|TCG)$/.exec(stat.name)?.[1];
  return {
    tid,
    tgid: status.tgid,
    startTicks: stat.startTicks,
    name: stat.name,
    ...(vcpu === undefined ? {} : { vcpu: Number(vcpu) }),
    affinity: status.allowedCpus,
    ownMask: masks.get(tid)?.ownMask ?? null,
    cpu: stat.cpu,
  };
}

const containerPath = /(^|\/)(docker|crio|cri-containerd|libpod|kubepods)[^/]*/;

/** Who made this cgroup, judged by its path: its own API is to be asked before its files are written. */
export function ownerOf(reader: { systemd: boolean }, path: string): Owner {
  if (containerPath.test(path)) return 'container-runtime';
  if (/(^|\/)machine(\.slice)?\/.*(libvirt|qemu)/.test(path)) return 'libvirt';
  return reader.systemd && /\.(slice|scope|service)$/.test(path) ? 'systemd' : 'none';
}
