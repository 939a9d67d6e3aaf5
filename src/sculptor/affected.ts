import type { Recommendation } from '../contract/recommendation.ts';
import { listCgroupTasks, walkBelow } from '../linux/cgroups.ts';
import { findVm } from '../linux/instance-at.ts';
import type { Kernel } from './kernel.ts';

/**
 * Moved instances, and those that are moved with them: every cgroup with tasks that is below a moved one now, whether telemetry
 * of it came or not, and the VM where its QEMU is in there, which is known by another id.
 */
export function affected(
  { roots, layout }: Pick<Kernel, 'roots' | 'layout'>,
  { moves }: Pick<Recommendation, 'moves'>,
): string[] {
  const ids = new Set(moves.map(move => move.instance.id));
  const paths = [...ids].filter(id => id.startsWith('/') && id !== '/');
  for (const path of paths.flatMap(moved => [...walkBelow(layout, moved)])) {
    const { vm } = findVm(roots, layout, path);
    if (vm) ids.add(vm.instance.id);
    else if (listCgroupTasks(layout, path).length > 0) ids.add(path);
  }
  return [...ids];
}
