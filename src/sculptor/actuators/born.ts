import { listCgroupTasks } from '../../linux/cgroups.ts';
import { formatCpuList, parseCpuList } from '../../linux/cpu-list.ts';
import { listThreads } from '../../linux/procfs.ts';
import { readCpuIds } from '../../linux/topology.ts';
import type { Kernel } from '../kernel.ts';
import type { UndoEntry, UndoResult } from './actuator.ts';
import { affinityOf } from './cpuset.ts';
import { shownMasks } from './shown-mask.ts';
import { type Thread, threadsOf } from './tasks.ts';

/** A thread that is being given back may make another meanwhile, with our mask; the newest generation is looked for again. */
const mostSweeps = 10;

const ESRCH = 3;

/**
 * Gives the threads that were born of touched ones while the action held what those had before: all possible CPUs, or the
 * mask of their own that all of the action's threads shared.
 */
export function undoBorn(kernel: Kernel, entry: UndoEntry, all: readonly UndoEntry[]): UndoResult {
  const touched = all.filter(other => other.kind === 'affinity' && other.wanted === entry.wanted);
  const cpus = Int32Array.from(givenBack(kernel, touched));
  const refused: number[] = [];
  let swept = 0;
  for (let sweep = 0; sweep < mostSweeps; sweep += 1) {
    const born = findBorn(kernel, entry, touched);
    if (born.length === 0) break;
    const tids = Int32Array.from(born, thread => thread.tid);
    for (const errno of kernel.native.setAffinity(tids, cpus)) {
      if (errno === 0) swept += 1;
      // A cpuset that was narrowed since may leave nothing of it: to be tried again, as for the threads that were touched.
      else if (errno !== ESRCH) refused.push(errno);
    }
    // What has our mask because its own choice is the same would be found for ever: one look at each is enough.
    touched.push(
      ...born.map(thread => ({
        ...entry,
        key: String(thread.tid),
        identity: thread.startTicks,
        tgid: thread.tgid,
      })),
    );
  }
  if (refused.length === 0)
    return { state: 'restored', message: `${entry.resource}: ${swept} threads born meanwhile` };
  const list = formatCpuList([...cpus]);
  return {
    state: 'failed',
    message: `${entry.resource}: the kernel refused CPUs ${list} to ${refused.length} threads born meanwhile, with errno ${refused[0]}`,
  };
}

function givenBack(kernel: Kernel, touched: readonly UndoEntry[]): readonly number[] {
  const own = new Set(touched.map(entry => (entry.ownMask === false ? '' : entry.before)));
  const [only] = own;
  return own.size === 1 && only ? (parseCpuList(only) ?? []) : readCpuIds(kernel.roots).possible;
}

/** Threads younger than the action, in its processes and cgroups, that hold its mask and are not among its own. */
function findBorn(kernel: Kernel, entry: UndoEntry, touched: readonly UndoEntry[]): Thread[] {
  const known = new Set(touched.map(other => `${other.key}@${other.identity}`));
  const tgids = new Set(touched.map(other => other.tgid));
  const cgroups = JSON.parse(entry.key) as string[];
  const tids = new Set([
    ...cgroups.flatMap(path => listCgroupTasks(kernel.layout, path)),
    ...[...tgids].flatMap(tgid => listThreads(kernel.roots, tgid)),
  ]);
  const shown = shownMasks(kernel);
  return threadsOf(kernel, kernel.ownMasks(), [...tids]).filter(thread => {
    if (known.has(`${thread.tid}@${thread.startTicks}`)) return false;
    if (thread.startTicks < entry.identity || thread.ownMask === false) return false;
    const held = formatCpuList(affinityOf(kernel, thread.tid) ?? []);
    // Of our mask a cpuset that was narrowed since, or a CPU that went offline, hides a part.
    return held === entry.wanted || (held !== '' && held === shown(thread, entry.wanted));
  });
}
