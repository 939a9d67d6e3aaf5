import { hostname } from 'node:os';
import type { Topology } from '../contract/host.ts';
import { readCgroupLayout } from './cgroups.ts';
import { parseCpuList } from './cpu-list.ts';
import { listFolder, readNumber, readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** CPUs that are there at all, and those that are online; CPUs ascending. */
export function readCpuIds(roots: Roots): { possible: number[]; online: number[] } {
  const list = (file: string) =>
    parseCpuList(readText(`${roots.sys}/devices/system/cpu/${file}`) ?? '') ?? [];
  return { possible: list('possible'), online: list('online') };
}

/** Memory node of each CPU that is online; empty on a kernel without NUMA. */
export function readNodeOfCpu(roots: Roots): Map<number, number> {
  const base = `${roots.sys}/devices/system/node`;
  return new Map(
    listFolder(base).flatMap(name => {
      const node = /^node(\d+)$/.exec(name)?.[1];
      if (node === undefined) return [];
      const cpus = parseCpuList(readText(`${base}/${name}/cpulist`) ?? '') ?? [];
      return cpus.map((cpu): [number, number] => [cpu, Number(node)]);
    }),
  );
}

/** The host as the planner knows it. A machine without NUMA has one node that holds every CPU. */
export function readTopology(roots: Roots, hostId: string): Topology {
  const { online } = readCpuIds(roots);
  const present = parseCpuList(readText(`${roots.sys}/devices/system/cpu/present`) ?? '') ?? online;
  const found = readNodes(roots);
  const nodes = found.length > 0 ? found : [onlyNode(roots, present)];
  return {
    hostId,
    hostName: hostname(),
    kernel: readText(`${roots.proc}/sys/kernel/osrelease`) ?? 'unknown',
    cgroupVersion: readCgroupLayout(roots).version,
    cpus: present.map(id => readCpu(roots, id, online.includes(id), nodes)),
    nodes: nodes.map(({ cpus: _, ...node }) => node),
  };
}

type Node = Topology['nodes'][number] & { cpus: number[] };

function readCpu(
  roots: Roots,
  id: number,
  online: boolean,
  nodes: readonly Node[],
): Topology['cpus'][number] {
  const folder = `${roots.sys}/devices/system/cpu/cpu${id}`;
  return {
    id,
    online,
    core: readNumber(`${folder}/topology/core_id`) ?? id,
    package: readNumber(`${folder}/topology/physical_package_id`) ?? 0,
    llc: lastLevelCache(folder) ?? id,
    node: nodes.find(node => node.cpus.includes(id))?.id ?? nodeOfOffline(folder) ?? 0,
  };
}

/** No node lists a CPU that is offline; its own folder keeps the link to the one that it was found on. */
function nodeOfOffline(folder: string): number | null {
  const link = listFolder(folder).find(name => /^node\d+$/.test(name));
  return link === undefined ? null : Number(link.slice('node'.length));
}

function lastLevelCache(folder: string): number | null {
  const levels = listFolder(`${folder}/cache`)
    .filter(name => name.startsWith('index'))
    .map(name => ({
      level: readNumber(`${folder}/cache/${name}/level`) ?? 0,
      cpus: parseCpuList(readText(`${folder}/cache/${name}/shared_cpu_list`) ?? '') ?? [],
    }))
    .sort((a, b) => b.level - a.level);
  return levels[0]?.cpus[0] ?? null;
}

/** A kernel without CONFIG_NUMA shows no nodes: all memory is one. */
function onlyNode(roots: Roots, cpus: number[]): Node {
  return { id: 0, distances: [10], cpus, ...memoryOf(readText(`${roots.proc}/meminfo`) ?? '') };
}

function memoryOf(meminfo: string): { memoryTotalBytes: number; memoryFreeBytes: number } {
  const bytes = (key: string) =>
    Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(meminfo)?.[1] ?? 0) * 1024;
  return { memoryTotalBytes: bytes('MemTotal'), memoryFreeBytes: bytes('MemFree') };
}

function readNodes(roots: Roots): Node[] {
  const base = `${roots.sys}/devices/system/node`;
  return listFolder(base)
    .flatMap(name => (/^node\d+$/.test(name) ? [Number(name.slice(4))] : []))
    .sort((a, b) => a - b)
    .map(id => ({
      id,
      distances: (readText(`${base}/node${id}/distance`) ?? '10').split(/\s+/).map(Number),
      cpus: parseCpuList(readText(`${base}/node${id}/cpulist`) ?? '') ?? [],
      ...memoryOf(readText(`${base}/node${id}/meminfo`) ?? ''),
    }));
}
