import { lstatSync, readdirSync } from 'node:fs';
import { readText } from '../../linux/read-file.ts';

/** An instance to look at: its cgroups' folders and its processes. */
export type Looked = {
  readonly folders: readonly string[];
  readonly processes: readonly { readonly pid?: number | undefined }[];
};

/** What the kernel holds of instances: every setting of their cgroups, and for each thread its CPUs, policy and cgroups. */
export type KernelState = ReadonlyMap<string, string>;

/** Files that are lists of tasks or live measurements and not settings. */
const notSettings = /^(tasks|cgroup\.procs|cgroup\.threads|cgroup\.kill|.*\.pressure|.*\.stat.*)$/;

/** Reads the state of the instances as it is now. */
export function readKernelState(instances: readonly Looked[]): KernelState {
  const state = new Map<string, string>();
  for (const instance of instances) {
    for (const folder of instance.folders) readSettings(folder, state);
    for (const { pid } of instance.processes) if (pid !== undefined) readThreads(pid, state);
  }
  return state;
}

function readSettings(folder: string, state: Map<string, string>): void {
  for (const name of readdirSync(folder)) {
    const path = `${folder}/${name}`;
    const entry = lstatSync(path);
    const writable = entry.isFile() && (entry.mode & 0o200) !== 0 && (entry.mode & 0o400) !== 0;
    if (writable && !notSettings.test(name)) state.set(path, readText(path) ?? 'unreadable');
  }
}

function readThreads(tgid: number, state: Map<string, string>): void {
  for (const tid of readdirSync(`/proc/${tgid}/task`)) {
    const folder = `/proc/${tgid}/task/${tid}`;
    const status = readText(`${folder}/status`) ?? '';
    const stat = readText(`${folder}/stat`) ?? '';
    // Fields 18, 19 and 41 of proc(5): priority, nice and policy, counted from the name's closing parenthesis.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    state.set(`${folder}: CPUs`, /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? 'ended');
    state.set(`${folder}: policy`, [fields[15], fields[16], fields[38]].join(' '));
    state.set(`${folder}: cgroups`, readText(`${folder}/cgroup`) ?? 'ended');
  }
}

/** What differs, one sentence each; empty when the two are exactly the same. */
export function differences(before: KernelState, after: KernelState): string[] {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys].flatMap(key => {
    const [was, is] = [before.get(key), after.get(key)];
    return was === is ? [] : [`${key}: was ${was ?? 'not there'}, is ${is ?? 'gone'}`];
  });
}
