import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';

const cpuRoot = '/sys/fs/cgroup/cpu';
const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;

/** Cgroups of the test's own directly under the v1 `cpu` root, with real processes in them; `end` leaves nothing behind. */
export type Scene = {
  readonly prefix: string;
  /** The instance id of a cgroup of the scene. */
  readonly id: (name: string) => string;
  readonly spawn: (name: string, ...workloadArguments: string[]) => ChildProcess;
  readonly read: (name: string, file: string) => string;
  readonly write: (name: string, file: string, text: string) => void;
  readonly end: () => Promise<void>;
};

/** Makes a scene whose cgroups begin with `prefix` and the test's own pid. */
export function stageScene(prefix: string): Scene {
  const full = `${prefix}-${process.pid}`;
  const folders = new Set<string>();
  const children: ChildProcess[] = [];
  const folderOf = (name: string) => `${cpuRoot}/${full}-${name}`;
  return {
    prefix: full,
    id: name => `/${full}-${name}`,
    spawn: (name, ...args) => {
      const folder = folderOf(name);
      mkdirSync(folder, { recursive: true });
      folders.add(folder);
      // The shell enters the cgroup before it becomes the workload: no instant outside it.
      const child = spawn(
        'sh',
        ['-c', `echo $$ > ${folder}/cgroup.procs && exec "$0" "$@"`, workload, ...args],
        {
          stdio: ['pipe', 'ignore', 'inherit'],
        },
      );
      children.push(child);
      return child;
    },
    read: (name, file) => readFileSync(`${folderOf(name)}/${file}`, 'utf8').trim(),
    write: (name, file, text) => writeFileSync(`${folderOf(name)}/${file}`, text),
    end: async () => {
      await Promise.all(children.map(endChild));
      for (const folder of folders) await removeCgroup(folder);
    },
  };
}

/** Process ids of those that a process has started, and that are there still. */
export function childrenOf(pid: number): string[] {
  return readdirSync('/proc').filter(name => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const [, after = ''] = readFileSync(`/proc/${name}/stat`, 'utf8').split(') ');
      return after.split(' ')[1] === String(pid);
    } catch {
      // It ended between the two.
      return false;
    }
  });
}

/** SIGKILL, and waits until it is reaped. */
export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

/** The kernel lets go of a cgroup a moment after its last task was reaped. */
async function removeCgroup(folder: string): Promise<void> {
  for (let attempt = 0; existsSync(folder); attempt += 1) {
    try {
      rmdirSync(folder);
    } catch (cause) {
      if (attempt === 50) throw cause;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }
}

/** Polls until `probe` answers something other than null or undefined. @throws with `what` when `seconds` have passed */
export async function eventually<T>(
  what: string,
  seconds: number,
  probe: () => T | null | undefined | Promise<T | null | undefined>,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const answer = await probe();
    if (answer !== null && answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}
