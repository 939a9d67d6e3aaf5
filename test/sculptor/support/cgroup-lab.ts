import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import type { Instance, Task } from '../../../src/contract/instance.ts';
import type { Move } from '../../../src/contract/recommendation.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { readTaskStat } from '../../../src/linux/procfs.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { type Kernel, openKernel } from '../../../src/sculptor/kernel.ts';

/** Cgroups and processes of one test on the real v1 hierarchies; all gone at its end, also when it fails. */
export type CgroupLab = ReturnType<typeof openCgroupLab>;

const roots = { cpu: '/sys/fs/cgroup/cpu', cpuset: '/sys/fs/cgroup/cpuset' } as const;
let labs = 0;

export function openCgroupLab(t: ExecutionContext) {
  labs += 1;
  const prefix = `sculptor-test-${process.pid}-${labs}`;
  const folders: string[] = [];
  const children: ChildProcess[] = [];
  const native = loadNative();
  const opened = openKernel(native, hostRoots, (level, message) => t.log(level, message));
  t.teardown(async () => {
    await Promise.all(children.map(kill));
    for (const folder of folders.reverse()) await removeCgroup(folder);
    opened.close();
  });
  const kernel: Kernel = opened.kernel;
  const lab = {
    kernel,
    native,
    id: (name: string) => `/${prefix}-${name}`,
    /** A cgroup in one hierarchy; a cpuset gets all CPUs and memory nodes. */
    make: (name: string, controllers: readonly ('cpu' | 'cpuset')[] = ['cpu']): string => {
      for (const controller of controllers) {
        const folder = `${roots[controller]}/${prefix}-${name}`;
        mkdirSync(folder);
        folders.push(folder);
        if (controller !== 'cpuset') continue;
        const parent = folder.slice(0, folder.lastIndexOf('/'));
        for (const file of ['cpuset.mems', 'cpuset.cpus'])
          writeFileSync(`${folder}/${file}`, readFileSync(`${parent}/${file}`, 'utf8'));
      }
      return `/${prefix}-${name}`;
    },
    read: (id: string, file: string): string =>
      readFileSync(
        `${file.startsWith('cpuset') ? roots.cpuset : roots.cpu}${id}/${file}`,
        'utf8',
      ).trim(),
    write: (id: string, file: string, text: string): void =>
      writeFileSync(
        `${file.startsWith('cpuset') ? roots.cpuset : roots.cpu}${id}/${file}`,
        `${text}\n`,
      ),
    remove: (id: string): Promise<void> => removeCgroup(`${roots.cpu}${id}`),
    kill,
    /** A process in cgroups of that name; answers its pid when it is there. */
    spawn: async (
      id: string,
      controllers: readonly ('cpu' | 'cpuset')[] = ['cpu'],
      command = 'exec sleep 600',
    ): Promise<ChildProcess & { pid: number }> => {
      const enter = controllers
        .map(controller => `echo $$ > ${roots[controller]}${id}/cgroup.procs`)
        .join(' && ');
      const child = spawn('sh', ['-c', `${enter} && echo ready && { ${command}; }`], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      children.push(child);
      await nextLine(child);
      if (child.pid === undefined) throw new Error('sh did not start');
      return child as ChildProcess & { pid: number };
    },
    thread: (tid: number): Task => ({
      kind: 'thread',
      tid,
      startTicks: readTaskStat(hostRoots, tid)?.startTicks ?? 0,
    }),
  };
  return lab;
}

export function instance(id: string): Instance {
  return { id, kind: 'cgroup', name: id };
}

export function move(id: string, set: Move['set'], tasks: Task[] = []): Move {
  return { instance: instance(id), tasks, set };
}

const printed = new WeakMap<ChildProcess, { lines: string[]; rest: string }>();

/** The next line that a child prints, whether it came already or is still to come. */
export async function nextLine(child: ChildProcess): Promise<string> {
  const known = printed.get(child) ?? { lines: [], rest: '' };
  if (!printed.has(child)) {
    printed.set(child, known);
    child.stdout?.on('data', (data: Buffer) => {
      const parts = (known.rest + data.toString()).split('\n');
      known.rest = parts.pop() ?? '';
      known.lines.push(...parts);
    });
  }
  for (let waited = 0; waited < 10_000; waited += 5) {
    const line = known.lines.shift();
    if (line !== undefined) return line;
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  throw new Error('a child printed no line within 10 s');
}

/** SIGKILL, and waits until it is reaped. */
export async function kill(child: ChildProcess): Promise<void> {
  // What it started itself may hold its pipes open for longer than it lives.
  child.stdin?.destroy();
  child.stdout?.destroy();
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

/** The kernel lets go of a cgroup a moment after its last task was reaped; what is left in it was made by the test. */
async function removeCgroup(folder: string): Promise<void> {
  for (let attempt = 0; existsSync(folder); attempt += 1) {
    try {
      for (const pid of readFileSync(`${folder}/cgroup.procs`, 'utf8').split('\n'))
        if (pid !== '') process.kill(Number(pid), 'SIGKILL');
      rmdirSync(folder);
    } catch (cause) {
      if (attempt === 100) throw cause;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }
}
