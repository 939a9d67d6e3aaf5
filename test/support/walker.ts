import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { removeCgroup } from './cgroup-box.ts';

const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;

/** What a walker says of itself: pages it touched, and the kernel's own count of its faults. */
export type Walked = {
  readonly pages: number;
  readonly minorFaults: number;
  readonly majorFaults: number;
  readonly walkNs: number;
};

/** One cgroup under the same path in the cpu and the memory hierarchy. */
export type WalkerBox = {
  readonly path: string;
  /** Of the cpu hierarchy. */
  readonly id: number;
  readonly memory: string;
  /** Runs `sculpt-workload walk`, on one CPU where it is given; the walker keeps its memory until `end`. */
  readonly walk: (options: readonly string[], cpu?: number) => Promise<Walked>;
  /** Starts a command; it runs until `end`. */
  readonly run: (...command: string[]) => void;
  readonly end: () => Promise<void>;
};

let boxes = 0;

export function makeWalkerBox(
  hierarchies = { cpu: '/sys/fs/cgroup/cpu', memory: '/sys/fs/cgroup/memory' },
): WalkerBox {
  boxes += 1;
  const path = `/sculptor-walk-${process.pid}-${boxes}`;
  const folders = [...new Set([`${hierarchies.cpu}${path}`, `${hierarchies.memory}${path}`])];
  for (const folder of folders) mkdirSync(folder);
  const children: ChildProcess[] = [];
  const start = (command: readonly string[], cpu?: number) => {
    const enter = folders.map(folder => `echo $$ > ${folder}/cgroup.procs`).join(' && ');
    const shell = ['sh', '-c', `${enter} && exec "$0" "$@"`, ...command];
    const [program = '', ...args] =
      cpu === undefined ? shell : ['taskset', '-c', `${cpu}`, ...shell];
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    return child;
  };
  return {
    path,
    id: statSync(`${hierarchies.cpu}${path}`).ino,
    memory: `${hierarchies.memory}${path}`,
    walk: async (options, cpu) => {
      const child = start([workload, 'walk', ...options], cpu);
      for await (const line of createInterface(child.stdout)) return JSON.parse(line) as Walked;
      throw new Error(`the walker ended: ${options.join(' ')}`);
    },
    run: (...command) => void start(command),
    end: async () => {
      for (const child of children) child.kill('SIGKILL');
      for (const folder of folders) await removeCgroup(folder);
    },
  };
}
