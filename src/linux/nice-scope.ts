import { findHierarchies, parentPath, readWeight } from './cgroups.ts';
import { readTaskCgroup } from './procfs.ts';
import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** Among whom a task's nice value counts: the scheduler weighs groups of tasks against each other first. */
export type NiceScope =
  | { readonly kind: 'host' }
  /** Of a cgroup with a weight (cgroup v2 units). */
  | { readonly kind: 'cgroup'; readonly path: string; readonly weight: number }
  /** What is in no such cgroup is grouped by session where the kernel has autogroups, all of one weight. */
  | { readonly kind: 'session'; readonly leads: boolean };

/** @see https://man7.org/linux/man-pages/man7/sched.7.html "The autogroup feature" */
export function readNiceScope(roots: Roots, pid: number): NiceScope {
  const weighed = weighedCgroup(roots, pid);
  if (weighed) return { kind: 'cgroup', ...weighed };
  const hasAutogroups = readText(`${roots.proc}/sys/kernel/sched_autogroup_enabled`) === '1';
  if (!hasAutogroups || !readText(`${roots.proc}/${pid}/autogroup`)) return { kind: 'host' };
  const stat = readText(`${roots.proc}/${pid}/stat`) ?? '';
  // Field 6 of proc(5), counted from the name's closing parenthesis.
  const session = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6 - 3];
  return { kind: 'session', leads: Number(session) === pid };
}

/** The nearest cgroup, itself or above, that is weighed against others; null: none is. */
function weighedCgroup(roots: Roots, pid: number): { path: string; weight: number } | null {
  const { v1, v2 } = findHierarchies(roots);
  const onV1 = v1('cpu');
  const cpu = onV1 ?? v2;
  const own = readTaskCgroup(roots, pid, onV1 === null ? '' : 'cpu');
  if (cpu === null || own === null) return null;
  const layout = { version: onV1 === null ? 2 : 1, cpu, cpuset: null } as const;
  for (let path: string | null = own; path !== null; path = parentPath(path)) {
    // On v1 the root has a file too, which weighs nothing.
    const weight = path === '/' && layout.version === 1 ? null : readWeight(layout, path);
    if (weight !== null) return { path, weight };
  }
  return null;
}
