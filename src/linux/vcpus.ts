import { type CgroupLayout, listCgroupProcesses } from './cgroups.ts';
import { readQemuArguments } from './command-line.ts';
import { mostProcesses, parseQemu, vmOf } from './instance-at.ts';
import { listThreads, readTaskStat, readTaskStatus } from './procfs.ts';
import type { Roots } from './roots.ts';

/** The thread that runs one vCPU. */
export type VcpuThread = {
  readonly index: number;
  readonly tid: number;
  readonly tgid: number;
  readonly startTicks: number;
  readonly name: string;
};

/** Which vCPU a thread of QEMU runs, by the name it has with `debug-threads=on`, as libvirt starts it always; null: none. */
export function vcpuOf(name: string): number | null {
  const index = /^CPU (\d+)\/(KVM|TCG)$/.exec(name)?.[1];
  return index === undefined ? null : Number(index);
}

/** The QEMU of a VM, among the processes of its cgroups; null when it has ended. */
export function findQemu(
  roots: Roots,
  layout: CgroupLayout,
  members: Iterable<string>,
  vmId: string,
): number | null {
  for (const member of members)
    for (const id of listCgroupProcesses(layout, member).slice(0, mostProcesses)) {
      const qemu = parseQemu(readQemuArguments(roots, id));
      // In a threaded cgroup they are threads.
      const tgid = qemu && readTaskStatus(roots, id)?.tgid;
      if (qemu && tgid && vmOf(roots, layout, tgid, qemu, member).instance.id === vmId) return tgid;
    }
  return null;
}

/** Threads of a QEMU that `indexOf` knows for vCPUs. Empty when none is, and when it has ended. */
export function readVcpuThreads(
  roots: Roots,
  tgid: number,
  indexOf: (tid: number, name: string) => number | null,
): VcpuThread[] {
  return listThreads(roots, tgid).flatMap(tid => {
    const stat = readTaskStat(roots, tid);
    const index = stat && indexOf(tid, stat.name);
    if (!stat || index === null) return [];
    return [{ index, tid, tgid, startTicks: stat.startTicks, name: stat.name }];
  });
}
