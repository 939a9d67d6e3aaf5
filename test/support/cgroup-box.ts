import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { endChild } from './scene.ts';

/** One cgroup of the test's own with real processes in it; `end` kills what was spawned and removes it. */
export type CgroupBox = {
  /** The kernel's id of the cgroup: its inode. */
  readonly id: number;
  readonly folder: string;
  readonly spawn: (...command: string[]) => ChildProcess;
  readonly write: (file: string, text: string) => void;
  readonly read: (file: string) => string;
  readonly end: () => Promise<void>;
};

let boxes = 0;

/** Makes a cgroup under `parent` (a hierarchy's root). */
export function makeCgroupBox(parent: string): CgroupBox {
  boxes += 1;
  const folder = `${parent}/sculptor-test-${process.pid}-${boxes}`;
  mkdirSync(folder);
  const children: ChildProcess[] = [];
  return {
    id: statSync(folder).ino,
    folder,
    spawn: (...command) => {
      // The shell enters the cgroup before it becomes the command: no instant outside it.
      const enter = `echo $$ > ${folder}/cgroup.procs && exec "$0" "$@"`;
      const child = spawn('sh', ['-c', enter, ...command], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      children.push(child);
      return child;
    },
    write: (file, text) => writeFileSync(`${folder}/${file}`, text),
    read: file => readFileSync(`${folder}/${file}`, 'utf8'),
    end: async () => {
      await Promise.all(children.map(endChild));
      await endStrays(folder);
      await removeCgroup(folder);
    },
  };
}

/** What the spawned processes started and left; only ever processes in this cgroup. */
async function endStrays(folder: string): Promise<void> {
  for (const pid of readFileSync(`${folder}/cgroup.procs`, 'utf8').split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch (cause) {
      if ((cause as { code?: string }).code !== 'ESRCH') throw cause;
    }
  }
}

/** The kernel lets go of a cgroup a moment after its last task was reaped. */
export async function removeCgroup(folder: string): Promise<void> {
  for (let attempt = 0; existsSync(folder); attempt += 1) {
    try {
      rmdirSync(folder);
    } catch (cause) {
      if (attempt === 100) throw cause;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }
}
