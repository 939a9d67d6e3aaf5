import { readlinkSync } from 'node:fs';
import type { Task } from '../../contract/instance.ts';
import type { Move } from '../../contract/recommendation.ts';
import { listCgroupTasks } from '../../linux/cgroups.ts';
import { readQemuArguments } from '../../linux/command-line.ts';
import { parseQemu } from '../../linux/instance-at.ts';
import type { OwnMask } from '../../linux/own-masks.ts';
import { listThreads, readTaskStat, readTaskStatus } from '../../linux/procfs.ts';
import { readText } from '../../linux/read-file.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Kernel } from '../kernel.ts';
import type { Problem } from './actuator.ts';
import { problem } from './cgroup-file.ts';

/** A thread that exists now. */
export type Thread = OwnMask & { readonly tid: number };

/** The threads a move means, as they are now, and what is wrong with those it names. `cgroup`: where newborns are looked for. */
export type ResolvedTasks = {
  readonly threads: readonly Thread[];
  readonly problems: readonly Problem[];
  readonly cgroups: readonly string[];
};

/** Most problems that are told one by one. */
const toldProblems = 20;

/** Resolves the tasks of a move; none named: every thread directly in the instance's cgroup. */
export function resolveTasks(kernel: Kernel, move: Move): ResolvedTasks {
  const masks = kernel.ownMasks();
  const instance = move.instance.id;
  if (move.tasks.length === 0) {
    const threads = threadsOf(kernel, masks, tasksOf(kernel, instance));
    const none = problem('not-found', `cgroup ${instance}: no task in it; wanted at least one`);
    return { threads, problems: threads.length > 0 ? [] : [none], cgroups: [instance] };
  }
  const members = new Set(tasksOf(kernel, instance));
  const found = new Map<number, Thread>();
  const problems: Problem[] = [];
  // Children of a touched thread are born in its cgroup, whatever was named.
  const cgroups = new Set<string>(instance.startsWith('/') ? [instance] : []);
  for (const task of move.tasks) {
    const answer =
      task.kind === 'class'
        ? resolveClass(kernel, masks, move, task)
        : resolveThread(kernel, masks, members, move, task);
    if (answer.problem && problems.length < toldProblems) problems.push(answer.problem);
    for (const thread of answer.threads) found.set(thread.tid, thread);
    if (answer.cgroup !== undefined) cgroups.add(answer.cgroup);
  }
  return { threads: [...found.values()], problems, cgroups: [...cgroups] };
}

/** Tasks of the cgroup that an id is; a VM's UUID is none, and must not be put behind the folder of the hierarchy. */
function tasksOf(kernel: Kernel, id: string): number[] {
  return id.startsWith('/') ? listCgroupTasks(kernel.layout, id) : [];
}

type Resolved = { threads: Thread[]; problem?: Problem; cgroup?: string };

function resolveThread(
  kernel: Kernel,
  masks: ReadonlyMap<number, OwnMask>,
  members: ReadonlySet<number>,
  move: Move,
  task: Exclude<Task, { kind: 'class' }>,
): Resolved {
  const [thread] = threadsOf(kernel, masks, [task.tid]);
  if (!thread) {
    return failed('task-ended', `tid ${task.tid}@${task.startTicks} of ${move.instance.id}: ended`);
  }
  if (thread.startTicks !== task.startTicks) {
    return failed(
      'tid-reused',
      `tid ${task.tid} of ${move.instance.id}: belongs to a task started at tick ${thread.startTicks} now; wanted ${task.startTicks}`,
    );
  }
  if (!members.has(task.tid) && !isOfMachine(kernel.roots, members, thread.tgid, move)) {
    return failed('not-found', `tid ${task.tid}: is not a task of instance ${move.instance.id}`);
  }
  return { threads: [thread] };
}

/** Threads of a VM may be in other cgroups. Its QEMU names the UUID that is its id; without one that is its main thread's cgroup. */
function isOfMachine(
  roots: Roots,
  members: ReadonlySet<number>,
  tgid: number,
  { instance }: Move,
): boolean {
  if (instance.kind !== 'vm') return false;
  return members.has(tgid) || parseQemu(readQemuArguments(roots, tgid))?.uuid === instance.id;
}

function resolveClass(
  kernel: Kernel,
  masks: ReadonlyMap<number, OwnMask>,
  move: Move,
  task: Extract<Task, { kind: 'class' }>,
): Resolved {
  const instance = move.instance.id;
  if ('cgroup' in task) {
    if (task.cgroup !== instance && !task.cgroup.startsWith(`${instance}/`)) {
      return failed('not-found', `cgroup ${task.cgroup}: is not within instance ${instance}`);
    }
    const threads = threadsOf(kernel, masks, listCgroupTasks(kernel.layout, task.cgroup));
    return threads.length > 0
      ? { threads, cgroup: task.cgroup }
      : failed('not-found', `cgroup ${task.cgroup}: no task in it; wanted at least one`);
  }
  const { tgid, startTicks } = task.parent;
  const parent = readTaskStat(kernel.roots, tgid);
  if (!parent) return failed('task-ended', `parent ${tgid}@${startTicks} of ${instance}: ended`);
  if (parent.startTicks !== startTicks) {
    return failed(
      'tid-reused',
      `parent ${tgid} of ${instance}: started at tick ${parent.startTicks}; wanted ${startTicks}`,
    );
  }
  const members = new Set(tasksOf(kernel, instance));
  const tids = childrenOf(kernel.roots, tgid)
    .filter(child => executableOf(kernel.roots, child) === task.exe)
    .flatMap(child => listThreads(kernel.roots, child))
    .filter(tid => members.has(tid));
  const threads = threadsOf(kernel, masks, tids);
  return threads.length > 0
    ? { threads, cgroup: instance }
    : failed(
        'not-found',
        `parent ${tgid} has no child in ${instance} that runs ${task.exe}; wanted at least one`,
      );
}

function failed(code: Problem['code'], message: string): Resolved {
  return { threads: [], problem: problem(code, message) };
}

/** Threads that still exist, by the iterator where there is one (1000 of them in under a millisecond), else by procfs. */
export function threadsOf(
  kernel: Kernel,
  masks: ReadonlyMap<number, OwnMask>,
  tids: readonly number[],
): Thread[] {
  return tids.flatMap(tid => {
    const mask = masks.get(tid);
    if (mask) return { tid, ...mask };
    // The iterator knows every thread: one that it lacks has ended. Without it, ask procfs.
    if (masks.size > 0) return [];
    const stat = readTaskStat(kernel.roots, tid);
    const status = readTaskStatus(kernel.roots, tid);
    return stat && status
      ? { tid, tgid: status.tgid, startTicks: stat.startTicks, ownMask: null, asked: null }
      : [];
  });
}

/** Processes whose parent is this one; any of its threads may have made them. */
function childrenOf(roots: Roots, tgid: number): number[] {
  return listThreads(roots, tgid).flatMap(tid =>
    (readText(`${roots.proc}/${tgid}/task/${tid}/children`) ?? '')
      .split(' ')
      .filter(part => part !== '')
      .map(Number),
  );
}

function executableOf(roots: Roots, tgid: number): string | null {
  try {
    return readlinkSync(`${roots.proc}/${tgid}/exe`);
  } catch {
    // It has ended, or is a kernel thread: it runs no executable that could be asked for.
    return null;
  }
}
