import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { KernelWriter } from '../../src/linux/damon.ts';
import type { Roots } from '../../src/linux/roots.ts';

const filesOfKdamond = ['state'];
const filesOfContext = [
  'operations',
  ...['sample_us', 'aggr_us', 'update_us'].map(name => `monitoring_attrs/intervals/${name}`),
  ...['min', 'max'].map(name => `monitoring_attrs/nr_regions/${name}`),
  'targets/nr_targets',
  'schemes/nr_schemes',
];
const filesOfScheme = [
  'action',
  ...['sz', 'nr_accesses', 'age'].flatMap(name =>
    ['min', 'max'].map(end => `access_pattern/${name}/${end}`),
  ),
  ...['nr_tried', 'sz_tried'].map(name => `stats/${name}`),
];

/** Of a process of which nothing was found yet: what is left there of another is no answer. */
const nothing = [
  [0, 0],
  [0, 0],
] as const;

/** How the kernel answers in a test. */
export type FakeDamon = {
  readonly writer: KernelWriter;
  /** What was written, as `PATH TEXT`, from the folder of kdamonds on. */
  readonly written: string[];
  /** What the next update of a process is to find: samples and bytes, by scheme. */
  readonly finds: (tgid: number, ...schemes: (readonly [samples: number, bytes: number])[]) => void;
  /** Errno of what a write is answered by, while it returns one. */
  refuse: (path: string, text: string) => string | null;
  /** By kdamond: the process that it monitors, of those that are on. */
  readonly on: Map<number, number>;
  /** A process ends, and with it the kdamond that monitors nothing else. */
  readonly ends: (tgid: number) => void;
  readonly folder: string;
};

/** DAMON in a tree of files: its folders come and go as counts are written, as the kernel's do. */
export function fakeDamon(roots: Roots, operations = 'vaddr\nfvaddr\npaddr'): FakeDamon {
  const folder = `${roots.sys}/kernel/mm/damon/admin/kdamonds`;
  const found = new Map<number, readonly (readonly [number, number])[]>();
  const on: FakeDamon['on'] = new Map();
  const written: string[] = [];
  const make = (at: string, files: readonly string[]): void => {
    for (const file of files) {
      mkdirSync(dirname(`${at}/${file}`), { recursive: true });
      writeFileSync(`${at}/${file}`, '0\n');
    }
  };
  const resize = (parent: string, count: number, files: readonly string[]): void => {
    for (const name of readdirSync(parent))
      if (/^\d+$/.test(name)) rmSync(`${parent}/${name}`, { recursive: true });
    for (let i = 0; i < count; i += 1) make(`${parent}/${i}`, files);
  };
  const command = (kdamond: number, text: string): void => {
    const tgid = Number(readFileSync(`${folder}/${kdamond}/contexts/0/targets/0/pid_target`));
    if (text === 'on') {
      if (!existsSync(`${roots.proc}/${tgid}`)) throw errno('EINVAL');
      on.set(kdamond, tgid);
    } else if (!on.has(kdamond)) throw errno(text === 'off' ? 'EPERM' : 'EINVAL');
    else if (text === 'off') on.delete(kdamond);
    else
      for (const [scheme, [samples, bytes]] of (found.get(tgid) ?? nothing).entries()) {
        const stats = `${folder}/${kdamond}/contexts/0/schemes/${scheme}/stats`;
        writeFileSync(`${stats}/nr_tried`, `${samples}\n`);
        writeFileSync(`${stats}/sz_tried`, `${bytes}\n`);
      }
  };
  const write = (full: string, text: string): void => {
    const path = full.slice(folder.length + 1);
    written.push(`${path} ${text}`);
    const refused = fake.refuse(path, text);
    if (refused !== null) throw errno(refused);
    if (!existsSync(full)) throw errno('ENOENT');
    const at = dirname(full);
    const [kdamond] = path.split('/').map(Number);
    if (path.endsWith('/state')) command(kdamond ?? 0, text);
    if (path === 'nr_kdamonds' && on.size > 0) throw errno('EBUSY');
    writeFileSync(full, `${text}\n`);
    if (path === 'nr_kdamonds') {
      resize(at, Number(text), filesOfKdamond);
      for (let i = 0; i < Number(text); i += 1) make(`${folder}/${i}`, ['contexts/nr_contexts']);
    }
    if (path.endsWith('nr_contexts')) {
      resize(at, Number(text), filesOfContext);
      writeFileSync(`${at}/0/avail_operations`, `${operations}\n`);
    }
    if (path.endsWith('nr_targets')) resize(at, Number(text), ['pid_target', 'regions/nr_regions']);
    if (path.endsWith('regions/nr_regions')) resize(at, Number(text), ['start', 'end']);
    if (path.endsWith('nr_schemes')) resize(at, Number(text), filesOfScheme);
  };
  const fake: FakeDamon = {
    writer: { now: write, later: async (path, text) => write(path, text) },
    written,
    finds: (tgid, ...schemes) => void found.set(tgid, schemes),
    refuse: () => null,
    on,
    ends: tgid => {
      for (const [kdamond, monitored] of on) if (monitored === tgid) on.delete(kdamond);
    },
    folder,
  };
  return fake;
}

/** Files of a kernel that has DAMON, for `makeTree`. */
export const damonFiles = {
  'sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds': '0',
  'proc/self/ns/pid': '',
};

function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}
