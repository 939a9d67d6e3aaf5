import { describeError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';
import { type CgroupLayout, readCgroupLayout } from '../linux/cgroups.ts';
import type { Native } from '../linux/native.ts';
import { type OwnMask, openOwnMasks } from '../linux/own-masks.ts';
import { readText } from '../linux/read-file.ts';
import type { Roots } from '../linux/roots.ts';
import { openUnits, type Units } from './units.ts';

/** The system as plans and actuators see it; everything is injected, so that tests run on a tree of their own. */
export type Kernel = {
  readonly roots: Roots;
  readonly layout: CgroupLayout;
  readonly native: Pick<Native, 'getAffinity' | 'setAffinity'>;
  /** Every thread of the host, read now; empty where the kernel does not let us look. */
  readonly ownMasks: () => ReadonlyMap<number, OwnMask>;
  readonly systemd: boolean;
  /** Asked only where systemd runs. */
  readonly units: Units;
  /**
   * Whether an earlier action gave this thread all possible CPUs because it had no mask of its own. The kernel counts that
   * as one of its own from then on, and does not tell which CPUs it has.
   */
  readonly relaxed?: (tid: number, startTicks: number) => boolean;
};

/**
 * Opens the kernel's files and the iterator of own masks. Without the iterator (no BTF, no CAP_BPF) the rest works:
 * a mask is then restored exactly as it was seen.
 * @throws KernelInterfaceError KERNEL_MISSING when no cgroup hierarchy is mounted
 */
export function openKernel(
  native: Native,
  roots: Roots,
  say: Say,
): { kernel: Kernel; close: () => void } {
  const masks = openMasks(native, roots, say);
  const kernel: Kernel = {
    roots,
    layout: readCgroupLayout(roots),
    native,
    ownMasks: masks?.read ?? (() => new Map()),
    systemd: readText(`${roots.proc}/1/comm`) === 'systemd',
    units: openUnits(),
  };
  return { kernel, close: () => masks?.close() };
}

function openMasks(native: Native, roots: Roots, say: Say): ReturnType<typeof openOwnMasks> | null {
  try {
    return openOwnMasks(native, roots);
  } catch (error) {
    say(
      'warn',
      `which threads have a mask of their own cannot be read; masks are given back exactly as they were: ${describeError(error)}`,
    );
    return null;
  }
}

/** Clock ticks since boot (USER_HZ): the unit of a task's start. */
export function bootTicks(roots: Roots): number {
  const seconds = Number((readText(`${roots.proc}/uptime`) ?? '').split(' ')[0]);
  return Number.isFinite(seconds) ? Math.floor(seconds * 100) : 0;
}

/** Names this boot: tids, start ticks and cgroup inodes mean nothing in another. */
export function bootId(roots: Roots): string {
  return readText(`${roots.proc}/sys/kernel/random/boot_id`) ?? 'unknown';
}
