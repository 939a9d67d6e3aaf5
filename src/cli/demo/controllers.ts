import { readFileSync, writeFileSync } from 'node:fs';
import { KernelInterfaceError } from '../../contract/errors.ts';
import type { CgroupLayout } from '../../linux/cgroups.ts';

/**
 * On v2, gives the children of the root the cpu and cpuset controllers, where they have not got them. v1 needs nothing.
 * @returns takes away again what it gave
 * @throws KernelInterfaceError KERNEL_MISSING, KERNEL_PRIVILEGE
 */
export function openControllers(layout: CgroupLayout): () => void {
  if (layout.version === 1) return () => undefined;
  const control = `${layout.cpu}/cgroup.subtree_control`;
  const words = (file: string) => readFileSync(`${layout.cpu}/${file}`, 'utf8').trim().split(' ');
  const present = words('cgroup.controllers');
  if (!present.includes('cpu'))
    throw new KernelInterfaceError(
      'KERNEL_MISSING',
      `${layout.cpu} has no cpu controller: instances cannot be weighed here`,
      { path: layout.cpu },
    );
  const given = words('cgroup.subtree_control');
  const wanted = ['cpu', 'cpuset'].filter(c => present.includes(c) && !given.includes(c));
  const write = (sign: string) => {
    for (const controller of wanted) writeFileSync(control, `${sign}${controller}`);
  };
  try {
    write('+');
  } catch (cause) {
    throw new KernelInterfaceError(
      'KERNEL_PRIVILEGE',
      `${control}: cannot enable ${wanted.join(', ')} for the children of the root: root on the host is wanted`,
      { path: control },
      cause,
    );
  }
  return () => write('-');
}
