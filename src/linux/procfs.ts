import { parseCpuList } from './cpu-list.ts';
import { listFolder, readText, readWhole } from './read-file.ts';
import type { Roots } from './roots.ts';

export type TaskStat = {
  readonly name: string;
  readonly startTicks: number;
  /** The CPU it ran on last. */
  readonly cpu: number;
};

let lastName = '';

/** A slice that is kept would keep all of the text that it was cut from; and of an instance most tasks have one name. */
function nameOf(slice: string): string {
  if (slice !== lastName) lastName = Buffer.from(slice).toString();
  return lastName;
}

/** /proc/TID/stat; null when the task has ended. The name may hold spaces and parentheses: fields are counted from the last one. */
export function readTaskStat(roots: Roots, tid: number): TaskStat | null {
  const text = readText(`${roots.proc}/${tid}/stat`);
  const close = text?.lastIndexOf(')') ?? -1;
  if (text === null || close < 0) return null;
  const fields = text.slice(close + 2).split(' ');
  // Numbered as in proc(5): field 3 is the first after the name.
  const startTicks = Number(fields[22 - 3]);
  const cpu = Number(fields[39 - 3]);
  if (!Number.isInteger(startTicks) || !Number.isInteger(cpu)) return null;
  return { name: nameOf(text.slice(text.indexOf('(') + 1, close)), startTicks, cpu };
}

/** `allowedCpus` may be another task’s as well, and is not to be written to. */
export type TaskStatus = { readonly tgid: number; readonly allowedCpus: number[] };

let lastAllowed: { text: string; cpus: number[] } = { text: '', cpus: [] };

/** Most tasks are allowed what the one before was: they share the list. Null for what is none. */
function allowedOf(text: string): number[] | null {
  if (text === lastAllowed.text) return lastAllowed.cpus;
  const cpus = parseCpuList(text);
  if (cpus !== null) lastAllowed = { text: Buffer.from(text).toString(), cpus };
  return cpus;
}

/** Thread group and allowed CPUs of /proc/TID/status; null when the task has ended. */
export function readTaskStatus(roots: Roots, tid: number): TaskStatus | null {
  const text = readText(`${roots.proc}/${tid}/status`);
  if (text === null) return null;
  const allowedCpus = allowedOf(/^Cpus_allowed_list:\s*(.*)$/m.exec(text)?.[1] ?? 'x');
  const tgid = Number(/^Tgid:\s*(\d+)$/m.exec(text)?.[1]);
  return allowedCpus && Number.isInteger(tgid) ? { tgid, allowedCpus } : null;
}

/** What a thread did since it began, by the scheduler's account. */
export type TaskAccount = {
  readonly tgid: number;
  readonly runNs: number;
  /** Runnable and not running, also where a quota kept it from it. */
  readonly waitNs: number;
  readonly voluntarySwitches: number;
  readonly involuntarySwitches: number;
};

/** Null when the task has ended, or the kernel keeps no such account (CONFIG_SCHED_INFO). */
export function readTaskAccount(roots: Roots, tid: number): TaskAccount | null {
  const text = readText(`${roots.proc}/${tid}/status`);
  const number = (key: string): number =>
    Number(new RegExp(`^${key}:\\s*(\\d+)$`, 'm').exec(text ?? '')?.[1] ?? Number.NaN);
  const [runNs = Number.NaN, waitNs = Number.NaN] =
    readText(`${roots.proc}/${tid}/schedstat`)?.split(' ').map(Number) ?? [];
  const account = {
    tgid: number('Tgid'),
    runNs,
    waitNs,
    voluntarySwitches: number('voluntary_ctxt_switches'),
    involuntarySwitches: number('nonvoluntary_ctxt_switches'),
  };
  return Object.values(account).every(Number.isFinite) ? account : null;
}

/** Of one of its threads, the process, and what that has in memory: shared and huge pages too; null where it has no memory (as threads of the kernel have none). */
export type ProcessMemory = { readonly tgid: number; readonly residentBytes: number | null };

/** Null when the thread has ended, or /proc does not show it. */
export function readProcessMemory(roots: Roots, tid: number): ProcessMemory | null {
  const text = readText(`${roots.proc}/${tid}/status`);
  const tgid = Number(/^Tgid:\s*(\d+)$/m.exec(text ?? '')?.[1]);
  if (text === null || !Number.isInteger(tgid)) return null;
  const kibibytes = (key: string): number | null => {
    const value = new RegExp(`^${key}:\\s*(\\d+) kB$`, 'm').exec(text)?.[1];
    return value === undefined ? null : Number(value);
  };
  const resident = kibibytes('VmRSS');
  const residentBytes =
    resident === null ? null : (resident + (kibibytes('HugetlbPages') ?? 0)) * 1024;
  return { tgid, residentBytes };
}

/** Where a task is in the hierarchy of a v1 controller, or ('') in that of v2. Null when it has ended, or there is none. */
export function readTaskCgroup(roots: Roots, tid: number, controller: string): string | null {
  // `HIERARCHY:CONTROLLER,CONTROLLER:PATH`
  for (const line of readWhole(`${roots.proc}/${tid}/cgroup`)?.split('\n') ?? []) {
    const from = line.indexOf(':') + 1;
    const end = line.indexOf(':', from);
    if (end > 0 && line.slice(from, end).split(',').includes(controller))
      return line.slice(end + 1);
  }
  return null;
}

/** Threads of a process; empty when it has ended. */
export function listThreads(roots: Roots, tgid: number): number[] {
  return listFolder(`${roots.proc}/${tgid}/task`).map(Number).filter(Number.isInteger);
}

/** Seconds since the host was booted; null when /proc/uptime does not tell. */
export function readUptime(roots: Roots): number | null {
  const seconds = Number.parseFloat(readText(`${roots.proc}/uptime`) ?? '');
  return Number.isFinite(seconds) ? seconds : null;
}

/** When the host was booted, in seconds since the epoch; null when /proc/stat does not tell. */
export function readBootTime(roots: Roots): number | null {
  const seconds = /^btime (\d+)$/m.exec(readText(`${roots.proc}/stat`) ?? '')?.[1];
  return seconds === undefined ? null : Number(seconds);
}

/** Idle and steal time of each logical CPU in seconds since boot, from /proc/stat (USER_HZ). */
export function readCpuTimes(
  roots: Roots,
): { cpu: number; idleSeconds: number; stealSeconds: number }[] {
  const text = readText(`${roots.proc}/stat`) ?? '';
  const times = [];
  for (const [, cpu, fields] of text.matchAll(/^cpu(\d+) (.*)$/gm)) {
    const ticks = (fields ?? '').split(' ').map(Number);
    // user nice system idle iowait irq softirq steal: a CPU that waits for I/O is free to run something.
    times.push({
      cpu: Number(cpu),
      idleSeconds: ((ticks[3] ?? 0) + (ticks[4] ?? 0)) / 100,
      stealSeconds: (ticks[7] ?? 0) / 100,
    });
  }
  return times;
}
