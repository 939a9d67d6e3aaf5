import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { readText } from '../../src/linux/read-file.ts';
import { type Octaves, parseOctaves } from './octaves.ts';
import { eventually } from './scene.ts';

/** A tool of Debian's libbpf-tools that counts what our probes count. */
export type Oracle = {
  /** Ends it as a person would; the histogram (µs) that it prints of a process, by `-P`. */
  readonly end: (tgid: number) => Promise<Octaves>;
  /** Ends it, whatever it is at. */
  readonly kill: () => void;
};

/** Where Debian puts a tool; null, with a printed reason, where it is not. */
export function findOracle(name: string): string | null {
  const path = `/usr/sbin/${name}`;
  if (existsSync(path)) return path;
  console.error(`# skipped: ${path} is not there (libbpf-tools)`);
  return null;
}

/** Starts it with a histogram for each process; resolves when it has attached so many programs. */
export async function startOracle(
  path: string,
  programs: number,
  ...options: readonly string[]
): Promise<Oracle> {
  const child = spawn(path, ['-P', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise(resolve => child.once('close', resolve));
  let printed = '';
  child.stdout.on('data', text => {
    printed += text;
  });
  await eventually(`${path} is attached`, 20, () => (linksOf(child) >= programs ? true : null));
  return {
    end: async tgid => {
      child.kill('SIGINT');
      await ended;
      const blocks = printed.split(/^pid = /m);
      return parseOctaves(blocks.find(each => each.startsWith(`${tgid} `)) ?? '');
    },
    kill: () => void child.kill('SIGKILL'),
  };
}

/** Links to BPF programs that a process holds. */
export function linksOf({ pid }: ChildProcess): number {
  const folder = `/proc/${pid}/fdinfo`;
  return readdirSync(folder).filter(fd => /^link_id:/m.test(readText(`${folder}/${fd}`) ?? ''))
    .length;
}
