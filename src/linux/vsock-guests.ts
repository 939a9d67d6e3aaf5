import { readlinkSync, statSync } from 'node:fs';
import type { Instance } from '../contract/instance.ts';
import type { Clock } from '../contract/ports.ts';
import { readCgroupLayout } from './cgroups.ts';
import { readQemuArguments } from './command-line.ts';
import { findVm, mostProcesses, parseQemu, type Qemu, vmOf, vmOfUuid } from './instance-at.ts';
import { readTaskStat } from './procfs.ts';
import { listFolder } from './read-file.ts';
import type { Roots } from './roots.ts';

/** A QEMU process that owns a context id, as a process for ever. */
type Owner = { readonly tgid: number; readonly startTicks: number; readonly instance: Instance };

/** All processes are looked at no more often than this, and for this part of the time: anybody may ask who is unknown. */
const scanSeconds = 1;
const scanRatio = 0.02;

/**
 * Answers which VM has a context id of AF_VSOCK: the one whose QEMU has it in its arguments and holds /dev/vhost-vsock,
 * without which arguments are only words, and whose UUID no other QEMU has. Null when there is none; why not (for a person) where it is no one's for sure. What was found holds
 * as long as that very process lives: the kernel gives a context id to one at a time.
 */
export function createVsockGuests(
  roots: Roots,
  clock: Clock,
  isDevice = isVhostVsock,
): { readonly find: (cid: number) => Instance | string | null } {
  let owners = new Map<number, Owner | string>();
  let nextScan = Number.NEGATIVE_INFINITY;

  const known = (cid: number): Instance | string | null => {
    const owner = owners.get(cid) ?? null;
    if (owner === null || typeof owner === 'string') return owner;
    return readTaskStat(roots, owner.tgid)?.startTicks === owner.startTicks ? owner.instance : null;
  };

  return {
    find: cid => {
      const found = known(cid);
      const now = clock.monotonicSeconds();
      if (now < nextScan || (found !== null && typeof found !== 'string')) return found;
      owners = scan(roots, isDevice);
      const took = clock.monotonicSeconds() - now;
      nextScan = now + Math.max(scanSeconds, took / scanRatio);
      return known(cid);
    },
  };
}

function scan(roots: Roots, isDevice: (path: string) => boolean): Map<number, Owner | string> {
  const owners = new Map<number, Owner | string>();
  const claims = new Map<string, number[]>();
  for (const tgid of listFolder(roots.proc).map(Number)) {
    if (!Number.isInteger(tgid)) continue;
    const args = readQemuArguments(roots, tgid);
    const qemu = parseQemu(args);
    if (qemu?.uuid) {
      const tgids = claims.get(qemu.uuid) ?? [];
      tgids.push(tgid);
      claims.set(qemu.uuid, tgids);
    }
    const cid = qemu && guestCidOf(args);
    if (!cid || !holds(roots, tgid, isDevice)) continue;
    const startTicks = readTaskStat(roots, tgid)?.startTicks;
    if (startTicks === undefined) continue;
    const instance = instanceOf(roots, tgid, qemu);
    const owner = instance ? { tgid, startTicks, instance } : sharesCgroup(tgid);
    owners.set(cid, owners.has(cid) ? 'several QEMUs say that it is theirs' : owner);
  }
  // Anybody may write a UUID: of several it is nobody's, also where the others have no such device.
  for (const [cid, owner] of owners) {
    const tgids = typeof owner === 'string' ? [] : (claims.get(owner.instance.id) ?? []);
    if (tgids.length > 1) owners.set(cid, sharesUuid(tgids));
  }
  return owners;
}

const sharesUuid = (tgids: readonly number[]): string =>
  `several QEMUs say that they are one VM (${tgids.slice(0, 5).join(', ')}): wanted a UUID that is no other's`;

const sharesCgroup = (tgid: number): string =>
  `its QEMU (${tgid}) has no UUID, and is not alone in its cgroup: wanted -uuid, or a cgroup of its own`;

/** Null for a QEMU without a UUID that shares its cgroup with others: what one guest says must not be taken for another's. */
function instanceOf(roots: Roots, tgid: number, qemu: Qemu): Instance | null {
  if (qemu.uuid !== null) return vmOfUuid(qemu.uuid, qemu);
  const layout = readCgroupLayout(roots);
  const { path } = vmOf(roots, layout, tgid, qemu, '/');
  return findVm(roots, layout, path, mostProcesses).vm?.instance ?? null;
}

/** `-device vhost-vsock-pci,guest-cid=3`, or as JSON, which libvirt writes; null without one. */
function guestCidOf(args: readonly string[]): number | null {
  for (const [at, arg] of args.entries()) {
    if (!/^--?device$/.test(args[at - 1] ?? '') || !arg.includes('vhost-vsock')) continue;
    const cid = /(?:^|,)guest-cid=(\w+)|"guest-cid":\s*"?(\w+)/.exec(arg);
    const value = Number(cid?.[1] ?? cid?.[2]);
    if (Number.isInteger(value) && value > 2) return value;
  }
  return null;
}

function holds(roots: Roots, tgid: number, isDevice: (path: string) => boolean): boolean {
  const folder = `${roots.proc}/${tgid}/fd`;
  return listFolder(folder).some(fd => isDevice(`${folder}/${fd}`));
}

/**
 * Character device 10:241 (miscdevice.h), by its number: a name can be given to any file in a mount namespace of one's own.
 * Others are not looked at: to ask for a file of a server that is gone takes for ever.
 */
function isVhostVsock(path: string): boolean {
  try {
    if (!/\/vhost-vsock( \(deleted\))?$/.test(readlinkSync(path))) return false;
    const file = statSync(path);
    return file.isCharacterDevice() && file.rdev === ((10 << 8) | 241);
  } catch {
    // It was closed meanwhile, or is not ours to see: then it is not known to be held.
    return false;
  }
}
