import { instancePolicyOf, type Policy } from '../contract/policy.ts';
import type { Recommendation } from '../contract/recommendation.ts';
import { listCgroupTasks } from '../linux/cgroups.ts';
import { readQemuArguments } from '../linux/command-line.ts';
import { parseCpuList } from '../linux/cpu-list.ts';
import { parseQemu } from '../linux/instance-at.ts';
import { listThreads, readTaskStat } from '../linux/procfs.ts';
import { listFolder } from '../linux/read-file.ts';
import type { Roots } from '../linux/roots.ts';
import { readCpuIds } from '../linux/topology.ts';
import type { UndoEntry } from './actuators/actuator.ts';
import { affinityOf } from './actuators/cpuset.ts';
import type { Kernel } from './kernel.ts';

/** An instance that shares CPUs with an action, and how much of its served demand it may lose (ratio). */
export type Neighbour = {
  readonly instance: string;
  readonly limitRatio: number;
  /** Nothing is judged before this many seconds, and then over as many; 0: from the first samples on. */
  readonly windowSeconds: number;
};

/**
 * Who is watched besides the beneficiary: the moved instances, and those of `known` that may run on a source or target CPU, or
 * anywhere for all that is known. `controls` are the others: nothing was done near them. The root cgroup is no instance.
 */
export function findNeighbours(
  kernel: Kernel,
  policy: Policy,
  recommendation: Recommendation,
  entries: readonly UndoEntry[],
  known: readonly string[],
): { neighbours: Neighbour[]; controls: string[] } {
  const beneficiary = recommendation.beneficiary.id;
  const moved = new Set(recommendation.moves.map(move => move.instance.id));
  const masksOf = masksByInstance(kernel);
  const touched = touchedCpus(kernel, recommendation, entries, masksOf);
  const neighbours: Neighbour[] = [];
  const controls: string[] = [];
  for (const instance of new Set([...moved, ...known])) {
    if (instance === beneficiary || instance === '/') continue;
    if (moved.has(instance) || isNear(masksOf(instance), touched))
      neighbours.push({ instance, ...limitOf(policy, recommendation, instance) });
    else controls.push(instance);
  }
  return { neighbours, controls };
}

/**
 * Whether one of these masks has a CPU that is touched: of most instances the first has, and no other is read. As a control, what one
 * of which no thread was found lost by the action would count as what the whole host went through.
 */
function isNear(masks: Iterable<readonly number[]>, touched: ReadonlySet<number>): boolean {
  let isFound = false;
  for (const cpus of masks) {
    if (cpus.some(cpu => touched.has(cpu))) return true;
    isFound ||= cpus.length > 0;
  }
  return !isFound;
}

/** Source and target CPUs: those named by the moves, and those that what is moved may run on now. */
function touchedCpus(
  kernel: Kernel,
  recommendation: Recommendation,
  entries: readonly UndoEntry[],
  masksOf: (instance: string) => Iterable<readonly number[]>,
): Set<number> {
  const lists = new Set(
    entries.flatMap(entry =>
      entry.kind === 'affinity' || entry.kind === 'cpuset' ? [entry.before, entry.wanted] : [],
    ),
  );
  const moved = recommendation.moves.map(move => [...masksOf(move.instance.id)].flat());
  const unknown = recommendation.moves.some(
    (move, i) => move.tasks.length === 0 && moved[i]?.length === 0,
  );
  // An empty cpuset on v2 had its parent's CPUs, and a cgroup with all its tasks below it has theirs: near enough is every one.
  if (unknown || entries.some(entry => entry.kind === 'cpuset' && entry.before === ''))
    return new Set(readCpuIds(kernel.roots).online);
  return new Set([...[...lists].flatMap(list => parseCpuList(list) ?? []), ...moved.flat()]);
}

/**
 * Where an instance may run, by the masks of its threads, each read when it is asked for: those in its cgroup, or of every QEMU that
 * says it is the VM of that UUID. Empty when none is found.
 */
function masksByInstance(kernel: Kernel): (instance: string) => Iterable<readonly number[]> {
  let machines: ReadonlyMap<string | null, readonly Machine[]> | null = null;
  const threadsOf = (instance: string): number[] => {
    if (instance.startsWith('/')) return listCgroupTasks(kernel.layout, instance);
    machines ??= Map.groupBy(listMachines(kernel.roots), ({ uuid }) => uuid);
    return (machines.get(instance) ?? []).flatMap(({ tgid }) => listThreads(kernel.roots, tgid));
  };
  return function* (instance) {
    for (const tid of threadsOf(instance)) yield affinityOf(kernel, tid) ?? [];
  };
}

type Machine = { readonly tgid: number; readonly uuid: string | null };

/** By their names first, which cost a twentieth of their arguments. A QEMU that has another name (`-name process=…`) is not found. */
function listMachines(roots: Roots): Machine[] {
  return listFolder(roots.proc).flatMap(folder => {
    const tgid = Number(folder);
    if (!/^(qemu|kvm)/.test((tgid > 0 && readTaskStat(roots, tgid)?.name) || '')) return [];
    const qemu = parseQemu(readQemuArguments(roots, tgid));
    return qemu ? { tgid, uuid: qemu.uuid } : [];
  });
}

function limitOf(
  policy: Policy,
  recommendation: Recommendation,
  instance: string,
): { limitRatio: number; windowSeconds: number } {
  const rule = instancePolicyOf(policy, instance);
  const outweighed = recommendation.moves.some(move => 'weight' in move.set || 'idle' in move.set);
  const windowSeconds = rule?.class === 'batch' && outweighed ? policy.batch.windowSeconds : 0;
  if (rule?.maxDegradationRatio !== undefined)
    return { limitRatio: rule.maxDegradationRatio, windowSeconds };
  if (rule?.class !== 'batch') return { limitRatio: policy.maxDegradationRatio, windowSeconds: 0 };
  return outweighed
    ? { limitRatio: policy.batch.outweighedDegradationRatio, windowSeconds }
    : { limitRatio: policy.batch.confinedDegradationRatio, windowSeconds: 0 };
}
