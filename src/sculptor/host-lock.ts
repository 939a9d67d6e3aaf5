import { closeSync } from 'node:fs';
import { KernelInterfaceError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';
import { readCgroupLayout } from '../linux/cgroups.ts';
import { findLockHolders } from '../linux/lock-holders.ts';
import type { Native } from '../linux/native.ts';
import { readText } from '../linux/read-file.ts';
import type { Roots } from '../linux/roots.ts';

/**
 * Makes this process the only one that acts on the host, or gives back, whatever its journal: two would move the same things, and
 * each take the other's settings for a stranger's. What is locked is the root of the cgroups that are acted on: one and the same in
 * every mount and network namespace, and another one where others are acted on. Answers how to let go; the end of the process does.
 * @throws KernelInterfaceError KERNEL_BUSY when another that lives does, KERNEL_MISSING when no cgroup hierarchy is mounted
 */
export function lockHost(native: Pick<Native, 'lockFolder'>, roots: Roots, say: Say): () => void {
  const { cpu } = readCgroupLayout(roots);
  try {
    const fd = native.lockFolder(cpu);
    return () => closeSync(fd);
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'EAGAIN') throw cause;
    const holders = findLockHolders(roots, cpu);
    const holder = holders.find(each => mayAct(roots, each)) ?? holders[0];
    if (holder === undefined || mayAct(roots, holder)) throw busy(cpu, holder, cause);
    // Who may read a folder may lock it: no user but root's, or ours, is to keep anything from being given back.
    say(
      'warn',
      `process ${holder} holds ${cpu}, and is no sculptor: that no other acts is not known`,
    );
    return () => undefined;
  }
}

/** Who could be a sculptor: root, or who we are. */
function mayAct(roots: Roots, tgid: number): boolean {
  const uid = /^Uid:\s+(\d+)/m.exec(readText(`${roots.proc}/${tgid}/status`) ?? '')?.[1];
  return uid === undefined || [0, process.getuid?.()].includes(Number(uid));
}

function busy(path: string, holder: number | undefined, cause: unknown): KernelInterfaceError {
  const who = holder === undefined ? 'a process of another pid namespace' : `process ${holder}`;
  return new KernelInterfaceError(
    'KERNEL_BUSY',
    `${who} (a running sculptor) acts on this host, and holds ${path}: one may at a time. Stop that one: it gives everything back as it ends ("sculpt mode observe" does so too, and leaves it running)`,
    { path, holder },
    cause,
  );
}
