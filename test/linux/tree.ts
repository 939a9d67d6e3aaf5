import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Roots } from '../../src/linux/roots.ts';

/**
 * A host made of files; a path that ends in a slash is a folder. What is removed keeps its inode, so that what is made after
 * it has another one, as cgroups have. It goes with the test.
 */
export type Tree = Roots & {
  readonly write: (files: Readonly<Record<string, string>>) => void;
  readonly remove: (path: string) => void;
};

/** Builds `proc/…`, `sys/…` and `cgroup/…` in a folder of the test's own. */
export function makeTree(t: ExecutionContext, files: Readonly<Record<string, string>>): Tree {
  const root = mkdtempSync(join(tmpdir(), 'sculptor-host-'));
  const removed: number[] = [];
  t.teardown(() => {
    removed.forEach(closeSync);
    rmSync(root, { recursive: true, force: true });
  });
  const write: Tree['write'] = more => {
    for (const [path, text] of Object.entries(more)) {
      const full = join(root, path);
      mkdirSync(path.endsWith('/') ? full : dirname(full), { recursive: true });
      if (!path.endsWith('/')) writeFileSync(full, `${text}\n`);
    }
  };
  write(files);
  return {
    proc: `${root}/proc`,
    sys: `${root}/sys`,
    cgroup: `${root}/cgroup`,
    write,
    remove: path => {
      removed.push(openSync(join(root, path), 'r'));
      rmSync(join(root, path), { recursive: true });
    },
  };
}

const mount = (path: string, type: string, options: string) =>
  `30 23 0:26 / /sys/fs/cgroup${path} rw,nosuid shared:9 - ${type} ${type} rw,${options}`;

export const mounts = {
  v1: [
    mount('/cpu,cpuacct', 'cgroup', 'cpu,cpuacct'),
    mount('/cpuset', 'cgroup', 'cpuset'),
    mount('/memory', 'cgroup', 'memory'),
  ].join('\n'),
  v1WithoutCpuset: mount('/cpu', 'cgroup', 'cpu'),
  v2: `22 1 8:1 / / rw - ext4 /dev/sda1 rw\n${mount('', 'cgroup2', 'nsdelegate')}`,
  /** systemd's "hybrid": v2 is there, and holds no controllers. */
  hybrid: [
    mount('/unified', 'cgroup2', 'nsdelegate'),
    mount('/cpu,cpuacct', 'cgroup', 'cpu,cpuacct'),
    mount('/cpuset', 'cgroup', 'cpuset'),
  ].join('\n'),
  none: '22 1 8:1 / / rw - ext4 /dev/sda1 rw',
} as const;

/** The files of one task in /proc. */
export function taskFiles(
  tid: number,
  task: {
    name?: string;
    tgid?: number;
    startTicks?: number;
    cpu?: number;
    allowed?: string;
    cgroup?: string;
    cmdline?: string[];
  } = {},
): Record<string, string> {
  const { name = 'work', tgid = tid, startTicks = 1000, cpu = 0, allowed = '0-1' } = task;
  const fields = Array.from({ length: 50 }, (_, i) => {
    if (i + 3 === 3) return 'S';
    if (i + 3 === 22) return String(startTicks);
    return i + 3 === 39 ? String(cpu) : '0';
  });
  return {
    [`proc/${tid}/stat`]: `${tid} (${name}) ${fields.join(' ')}`,
    [`proc/${tid}/status`]: `Name:\t${name}\nTgid:\t${tgid}\nCpus_allowed:\t3\nCpus_allowed_list:\t${allowed}`,
    [`proc/${tid}/cgroup`]: task.cgroup ?? '0::/',
    [`proc/${tid}/cmdline`]: (task.cmdline ?? ['work']).map(arg => `${arg}\0`).join(''),
  };
}

/** The files of a process that has so much in memory. */
export function residentFiles(
  tgid: number,
  mib: number,
  task: Parameters<typeof taskFiles>[1] = {},
): Record<string, string> {
  const files = taskFiles(tgid, task);
  const status = `proc/${tgid}/status`;
  return { ...files, [status]: `${files[status]}\nVmRSS:\t  ${mib * 1024} kB` };
}
