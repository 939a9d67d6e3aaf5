import { readCpuset } from '../../linux/cgroups.ts';
import { formatCpuList, parseCpuList } from '../../linux/cpu-list.ts';
import { readCpuIds } from '../../linux/topology.ts';
import type { Kernel } from '../kernel.ts';
import { intersection } from './cpus.ts';
import { cpusetPathOf } from './cpuset.ts';

type ShownMask = (thread: { readonly tid: number; readonly tgid: number }, mask: string) => string;

/**
 * What a mask looks like now: cut by the thread's cpuset, and by the CPUs that went offline; all that is left to the thread where
 * nothing is left of the mask. A process is taken to be in one cpuset.
 */
export function shownMasks(kernel: Kernel): ShownMask {
  const allowed = new Map<number, number[]>();
  const allowedOf = (tid: number): number[] => {
    const path = cpusetPathOf(kernel, tid);
    const effective = path === null ? [] : readCpuset(kernel.layout, path).effective;
    return effective.length > 0 ? effective : readCpuIds(kernel.roots).online;
  };
  return ({ tid, tgid }, mask) => {
    const cpus = allowed.get(tgid) ?? allowedOf(tid);
    allowed.set(tgid, cpus);
    const left = intersection(parseCpuList(mask) ?? [], cpus);
    return formatCpuList(left.length > 0 ? left : cpus);
  };
}
