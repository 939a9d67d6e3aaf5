import type { Instance } from '../contract/instance.ts';
import {
  type CgroupLayout,
  cgroupIdOf,
  listCgroupProcesses,
  listCgroupTasks,
  listChildren,
} from './cgroups.ts';
import { isQemu, readQemuArguments } from './command-line.ts';
import { plainName } from './plain-name.ts';
import { readTaskCgroup, readTaskStatus } from './procfs.ts';
import { optionsOf } from './qemu-options.ts';
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

/** Where a QEMU is known to be it may be among many others. To read so many command lines takes some 3 ms, and 0.2 s where each is as long as it may be. */
export const mostProcesses = 128;

/**
 * The VM that a cgroup belongs to: the one whose QEMU is in it. Null for the root, which holds whatever was placed nowhere, and
 * where several QEMUs share a cgroup, or one without a UUID has others below its own: `qemus` of them. A QEMU that becomes a daemon is two for a moment.
 * `seen`: processes of it that are looked at whatever their place among all.
 */
export function findVm(
  roots: Roots,
  layout: CgroupLayout,
  path: string,
  most = processesLookedAt,
  seen: readonly number[] = [],
): { readonly vm: FoundVm | null; readonly qemus: number } {
  const found = new Map<string | number, FoundVm & { tgid: number }>();
  for (const id of new Set([...seen, ...listCgroupProcesses(layout, path).slice(0, most)])) {
    const qemu = parseQemu(readQemuArguments(roots, id));
    // In a threaded cgroup they are threads.
    const tgid = qemu && readTaskStatus(roots, id)?.tgid;
    if (qemu && tgid)
      found.set(qemu.uuid ?? tgid, { ...vmOf(roots, layout, tgid, qemu, path), tgid });
  }
  // Two that are seen among few are reason to count them all.
  if (found.size > 1 && most < mostProcesses)
    return findVm(roots, layout, path, mostProcesses, seen);
  const [only] = found.values();
  if (only === undefined || found.size > 1 || only.path === '/')
    return { vm: null, qemus: found.size };
  const { tgid, ...vm } = only;
  return { vm: isAlone(roots, layout, vm, tgid) ? vm : null, qemus: 1 };
}

/**
 * A VM takes all that is below its cgroup. Without a UUID a QEMU was started by hand, or by a script, and its cgroup may be that of a
 * user, or of a service: then what is below it is somebody else's.
 */
function isAlone(
  roots: Roots,
  layout: CgroupLayout,
  { instance, path }: FoundVm,
  tgid: number,
): boolean {
  if (instance.id !== path) return true;
  return listChildren(layout, path).every(child => {
    const [first, ...others] = listCgroupTasks(layout, child);
    const isOfQemu = (tid: number) => readTaskStatus(roots, tid)?.tgid === tgid;
    return (
      first !== undefined && others.length < mostProcesses && [first, ...others].every(isOfQemu)
    );
  });
}

/** The VM that a QEMU in `path` is. Without a UUID its id is the path of its main thread's cgroup, wherever the others are. */
export function vmOf(
  roots: Roots,
  layout: CgroupLayout,
  tgid: number,
  qemu: Qemu,
  path: string,
): FoundVm {
  const { uuid } = qemu;
  if (uuid !== null) return { instance: vmOfUuid(uuid, qemu), path: machinePath(path) };
  const told = readTaskCgroup(roots, tgid, layout.version === 2 ? '' : 'cpu');
  // In a cgroup namespace of its own /proc may tell other paths than the hierarchy has.
  const home = told !== null && cgroupIdOf(layout, told) !== null ? told : path;
  const name = shownName(qemu);
  return { instance: { ...instanceAt(home), kind: 'vm', ...(name && { name }) }, path: home };
}

/** The VM that a QEMU is by the UUID that it gives. */
export function vmOfUuid(uuid: string, qemu: Qemu): Instance {
  return { id: uuid, kind: 'vm', name: shownName(qemu) || uuid };
}

/** As people read it, and as it goes with all that is told of a VM. */
function shownName({ name }: Qemu): string {
  return plainName(name.slice(0, mostOfName));
}

/** Who may start a process writes its arguments: options that are looked at, and what is told of a name. */
const mostOptions = 64;
const mostOfName = 256;

/** What QEMU's arguments say of its VM; an empty name: nothing. */
export type Qemu = { readonly uuid: string | null; readonly name: string };

/**
 * Null when it is another program, or a QEMU without a machine: libvirt asks such (`-machine none`) what they can, in its own
 * cgroup; others ask for help (`-cpu help`). The UUID is the last that is given, by `-uuid` or, as Proxmox does, by `-smbios type=1`; the nil UUID is none.
 */
export function parseQemu(args: readonly string[]): Qemu | null {
  if (!isQemu(args)) return null;
  let [uuid, name, options]: [string | null, string, number] = [null, '', 0];
  for (const [i, arg] of args.entries()) {
    if (/^--?(version|h|help)$/.test(arg) || /^(help|\?)$/.test(arg)) return null;
    // QEMU takes its options with one dash or two.
    const option = /^--?(uuid|smbios|name|machine|M)$/.exec(arg)?.[1];
    if (option === undefined) continue;
    options += 1;
    if (options > mostOptions) break;
    const { first, named } = optionsOf(args[i + 1] ?? '');
    if (option === 'uuid') uuid = uuidOf(first) ?? uuid;
    else if (option === 'smbios') {
      if (Number(named.get('type')) === 1) uuid = uuidOf(named.get('uuid')) ?? uuid;
    }
    // `-name guest=a,debug-threads=on`, or `-name a,debug-threads=on`.
    else if (option === 'name') name = named.get('guest') ?? (first.includes('=') ? name : first);
    else if (/^(none|help|\?)$/.test(named.get('type') ?? first)) return null;
  }
  return { uuid, name };
}

function uuidOf(text: string | undefined): string | null {
  const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.exec(text ?? '')?.[0].toLowerCase();
  return uuid === undefined || /^[0-]*$/.test(uuid) ? null : uuid;
}

/** libvirt puts vCPUs, the emulator and I/O threads into children of the machine's cgroup. */
function machinePath(path: string): string {
  return (
    /^(?:.*\/)?(?:machine-qemu[^/]*\.scope|[^/]+\.libvirt-qemu)(?=\/|$)/.exec(path)?.[0] ?? path
  );
}
