import { KernelInterfaceError } from '../contract/errors.ts';
import { listFolder, readInode, readNumber, readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** Where kdamonds, the kernel's threads that monitor accesses, are made and told what to do. */
export function kdamondsFolder(roots: Roots): string {
  return `${roots.sys}/kernel/mm/damon/admin/kdamonds`;
}

/** The file in which a kdamond bears the mark of who made it: after so many microseconds it would look at mappings anew. */
export const markFile = 'contexts/0/monitoring_attrs/intervals/update_us';

/** Some thirty years in microseconds: no kdamond comes to do what it is to do after that. */
const marks = 1e15;
/** Thread ids are below it. @see proc(5), pid_max */
const tgids = 2 ** 22;
const namespaces = 2 ** 20;

/** Tells this process from any other of this host, also of another pid namespace; for `markFile`. */
export function ownMark(roots: Roots, tgid: number): number {
  return markOf(namespaceOf(roots), tgid);
}

function markOf(namespace: number, tgid: number): number {
  return marks + (namespace % namespaces) * tgids + tgid;
}

function namespaceOf(roots: Roots): number {
  return readInode(`${roots.proc}/self/ns/pid`) ?? 0;
}

/** Modules of the kernel that have a kdamond of their own while they are switched on. */
const modules = ['damon_reclaim', 'damon_lru_sort', 'damon_stat'];

/** `off` of each that is on comes first. */
const toFree = 'write "off" to the state of each that is on, and 0 to nr_kdamonds';

/** An agent that has DAMON; `tgid`: its process, where it is of this pid namespace. */
type Agent = { readonly tgid?: number };

export type Monitoring = {
  /** For a person; null: nobody. */
  readonly who: string | null;
  /** Where it is one. */
  readonly agent: Agent | null;
  /** What is there is left of an agent of this host that has ended, and so is nobody's. */
  readonly left: boolean;
};

/**
 * Who monitors accesses already. Reads the name of each process where nothing else was found, so some 18 ms for 1,000 of them;
 * writes nothing.
 * @throws KernelInterfaceError KERNEL_MISSING, KERNEL_PRIVILEGE
 */
export function whoMonitors(roots: Roots, self: number): Monitoring {
  const folder = kdamondsFolder(roots);
  const count = countKdamonds(roots);
  const agent = count > 0 ? agentOf(roots, count) : null;
  const left = agent?.tgid !== undefined && (agent.tgid === self || hasEnded(roots, agent.tgid));
  if (count > 0 && !left) {
    const there = `${count} ${count === 1 ? 'kdamond is' : 'kdamonds are'} there already (${folder})`;
    return { who: `${there}, ${whoseWords(agent)}`, agent, left };
  }
  const module = modules.find(
    name => (readNumber(`${roots.sys}/module/${name}/parameters/kdamond_pid`) ?? 0) > 0,
  );
  if (module !== undefined)
    return { who: `the kernel's ${module} monitors accesses`, agent: null, left };
  // Those of an agent that has ended may still run, and look like any other.
  const thread = left ? null : findThread(roots);
  const who = thread === null ? null : `a kdamond runs (thread ${thread})`;
  return { who, agent: null, left };
}

function whoseWords(agent: Agent | null): string {
  if (agent === null) return `not of an agent; if nobody uses them, ${toFree}`;
  if (agent.tgid !== undefined) return `of the agent that runs as process ${agent.tgid}`;
  return `of an agent in another pid namespace; if it has ended, ${toFree}`;
}

/** @throws KernelInterfaceError KERNEL_MISSING, KERNEL_PRIVILEGE */
function countKdamonds(roots: Roots): number {
  const folder = kdamondsFolder(roots);
  if (!listFolder(folder).includes('nr_kdamonds'))
    throw new KernelInterfaceError(
      'KERNEL_MISSING',
      `${folder} is not there: a kernel with CONFIG_DAMON_SYSFS is wanted (Debian's from 6.12 on)`,
      { path: folder, remedy: "a kernel with CONFIG_DAMON_SYSFS (Debian's from 6.12 on)" },
    );
  const count = readNumber(`${folder}/nr_kdamonds`);
  if (count !== null) return count;
  throw new KernelInterfaceError('KERNEL_PRIVILEGE', `${folder} is for root, or CAP_DAC_OVERRIDE`, {
    path: folder,
    absent: ['CAP_DAC_OVERRIDE'],
  });
}

/** The agent whose mark each bears; null: somebody else's. */
function agentOf(roots: Roots, count: number): Agent | null {
  const folder = kdamondsFolder(roots);
  const mark = readNumber(`${folder}/0/${markFile}`) ?? 0;
  const tgid = (mark - marks) % tgids;
  if (mark < marks || mark >= marks + namespaces * tgids || tgid === 0) return null;
  for (let i = 1; i < count; i += 1)
    if (readNumber(`${folder}/${i}/${markFile}`) !== mark) return null;
  return mark === markOf(namespaceOf(roots), tgid) ? { tgid } : {};
}

function hasEnded(roots: Roots, tgid: number): boolean {
  return readText(`${roots.proc}/${tgid}/stat`) === null;
}

function findThread(roots: Roots): number | null {
  for (const name of listFolder(roots.proc)) {
    if (!/^\d+$/.test(name)) continue;
    const isOne = /^kdamond\.\d+$/.test(readText(`${roots.proc}/${name}/comm`) ?? '');
    // A process may call itself so; a thread of the kernel has no command line.
    if (isOne && readText(`${roots.proc}/${name}/cmdline`) === '') return Number(name);
  }
  return null;
}
