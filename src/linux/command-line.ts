import { loadNativeOnce } from './native.ts';
import { readTaskStat } from './procfs.ts';
import { isGone, readTextUpTo } from './read-file.ts';
import type { Roots } from './roots.ts';

/** A process may have 6 MB of arguments, and a QEMU with hundreds of devices has some tens of kB in two thousand. */
const mostBytes = 262_144;
const mostArguments = 4096;

/** Of another program no more is looked at: anybody may start many of them with long arguments. A path has no more (PATH_MAX). */
const mostOfName = 4096;

/** It takes some 20 µs. */
const patienceMs = 100;

/** Of QEMUs; longer ones are not kept. */
const mostKept = { processes: 1024, bytes: 32_768 };

/** As they were read last: a QEMU whose mmap lock somebody holds just now is the one that it was. */
const kept = new Map<string, { readonly startTicks: number; readonly text: string }>();

/**
 * Arguments of a QEMU; none of another program, when it has ended, and where it keeps who would read them waiting: that takes its
 * mmap lock, which it can hold for good, by a mapping of a file whose server is silent.
 */
export function readQemuArguments(roots: Roots, tgid: number): string[] {
  const text = read(`${roots.proc}/${tgid}/cmdline`, roots, tgid);
  return text?.split('\0', mostArguments).filter(part => part !== '') ?? [];
}

/** Whether arguments are those of a QEMU that emulates a machine, by its name. */
export function isQemu(args: readonly string[]): boolean {
  return /(^|\/)(qemu-system-[^/]*|qemu-kvm|kvm)$/.test(args[0] ?? '');
}

function read(path: string, roots: Roots, tgid: number): string | null {
  const native = loadNativeOnce();
  const upTo = (bytes: number): string =>
    (native === null
      ? readTextUpTo(path, bytes)
      : native.readAside(path, bytes, patienceMs).toString().trim()) ?? '';
  try {
    if (!isQemu(upTo(mostOfName).split('\0', 1))) return null;
    const text = upTo(mostBytes);
    keep(path, text, roots, tgid);
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
