import type { Instance } from '../contract/instance.ts';
import { type CgroupLayout, listCgroupProcesses } from './cgroups.ts';
import { readCommandLine } from './procfs.ts';
import type { Roots } from './roots.ts';

/** The instance that a cgroup is, judged by its path alone. A VM is found by `findVm`. */
export function instanceAt(path: string): Instance {
  const name = path.slice(path.lastIndexOf('/') + 1) || '/';
  return { id: path, kind: /[0-9a-f]{64}/.test(name) ? 'container' : 'cgroup', name };
}

/** The container that a cgroup is, or is inside: the runtimes name its cgroup by 64 hexadecimal digits. */
export function containerIdOf(path: string): string | null {
  return /[0-9a-f]{64}/.exec(path)?.[0] ?? null;
}

/** A virtual machine, and the cgroup whose children all belong to it. */
export type FoundVm = { readonly instance: Instance; readonly path: string };

/** Processes of a cgroup that are looked at: a VM's own cgroup holds QEMU and a few that serve it. */
export const processesLookedAt = 16;

/**
 * The VM that a cgroup belongs to: the one whose QEMU (with `-uuid`) is in it. Null for the root, which holds
 * whatever was placed nowhere, and where QEMUs of several machines share a cgroup.
 */
export function findVm(roots: Roots, layout: CgroupLayout, path: string): FoundVm | null {
  if (path === '/') return null;
  const found = new Map<string, string>();
  for (const id of listCgroupProcesses(layout, path).slice(0, processesLookedAt)) {
    const vm = parseQemu(readCommandLine(roots, id));
    if (vm) found.set(vm.uuid, vm.name);
  }
  const [only] = found;
  if (!only || found.size > 1) return null;
  const [uuid, name] = only;
  return { instance: { id: uuid, kind: 'vm', name: name || uuid }, path: machinePath(path) };
}

/** Identity of a VM from QEMU's arguments; null when it is another program, or has no `-uuid`. */
export function parseQemu(args: readonly string[]): { uuid: string; name: string } | null {
  if (!/(^|\/)(qemu-system-[^/]*|qemu-kvm|kvm)$/.test(args[0] ?? '')) return null;
  const uuid = optionOf(args, 'uuid')?.toLowerCase();
  if (!uuid || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid)) return null;
  // `-name guest=a,debug-threads=on`, or `-name a,debug-threads=on`. A comma within a name is doubled.
  const name = (optionOf(args, 'name') ?? '').replaceAll(',,', '\0').split(',');
  const guest = name.find(part => part.startsWith('guest='))?.slice('guest='.length) ?? name[0];
  return { uuid, name: (guest ?? '').replaceAll('\0', ',') };
}

/** QEMU takes its options with one dash or two. */
function optionOf(args: readonly string[], name: string): string | undefined {
  const at = args.findIndex(arg => arg === `-${name}` || arg === `--${name}`);
  return at < 0 ? undefined : args[at + 1];
}

/** libvirt puts vCPUs, the emulator and I/O threads into children of the machine's cgroup. */
function machinePath(path: string): string {
  return (
    /^(?:.*\/)?(?:machine-qemu[^/]*\.scope|[^/]+\.libvirt-qemu)(?=\/|$)/.exec(path)?.[0] ?? path
  );
}
