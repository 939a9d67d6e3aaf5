import { loadNative, type Native } from './native.ts';
import { readTaskStat } from './procfs.ts';
import { isGone, readTextUpTo } from './read-file.ts';
import type { Roots } from './roots.ts';

/** A process may have 6 MB of arguments, and a QEMU with hundreds of devices has some tens of kB. */
const mostBytes = 262_144;

/** It takes some 20 µs. */
const patienceMs = 100;

/** Of QEMUs; longer ones are not kept. */
const mostKept = { processes: 1024, bytes: 32_768 };

/** As they were read last: a QEMU whose mmap lock somebody holds just now is the one that it was. */
const kept = new Map<string, { readonly startTicks: number; readonly text: string }>();

/**
 * Arguments of a process; empty for kernel threads, when it has ended, and where it keeps who would read them waiting: that takes its
 * mmap lock, which it can hold for good, by a mapping of a file whose server is silent.
 */
export function readCommandLine(roots: Roots, tgid: number): string[] {
  const text = read(`${roots.proc}/${tgid}/cmdline`, roots, tgid);
  return text?.split('\0').filter(part => part !== '') ?? [];
}

/** Whether arguments are those of a QEMU that emulates a machine, by its name. */
export function isQemu(args: readonly string[]): boolean {
  return /(^|\/)(qemu-system-[^/]*|qemu-kvm|kvm)$/.test(args[0] ?? '');
}

function read(path: string, roots: Roots, tgid: number): string | null {
  const native = addon();
  if (native === null) return readTextUpTo(path, mostBytes);
  try {
    const text = native.readAside(path, mostBytes, patienceMs).toString().trim();
    if (isQemu(text.split('\0', 1))) keep(path, text, roots, tgid);
    return text;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (isGone(error)) return null;
    if (code !== 'ETIMEDOUT' && code !== 'EAGAIN') throw error;
    const last = kept.get(path);
    return last && last.startTicks === readTaskStat(roots, tgid)?.startTicks ? last.text : null;
  }
}

function keep(path: string, text: string, roots: Roots, tgid: number): void {
  kept.delete(path);
  const stat = readTaskStat(roots, tgid);
  if (stat === null || text.length > mostKept.bytes) return;
  kept.set(path, { startTicks: stat.startTicks, text });
  const [oldest] = kept.keys();
  if (kept.size > mostKept.processes && oldest !== undefined) kept.delete(oldest);
}

let known: Native | null | undefined;

/** Null where it is not there: then a command line is read as any other file, and its reader waits for as long as that takes. */
function addon(): Native | null {
  if (known === undefined) {
    try {
      known = loadNative();
    } catch {
      // Which parts do without it, and why it is not there, is said when they start.
      known = null;
    }
  }
  return known;
}
