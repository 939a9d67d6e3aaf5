import type { Move } from '../../contract/recommendation.ts';
import { readIdle } from '../../linux/cgroups.ts';
import type { Actuator } from './actuator.ts';
import {
  applyFiles,
  cgroupProblems,
  fileEntry,
  problem,
  readBackFiles,
  undoFiles,
} from './cgroup-file.ts';
import { weightFile } from './weight.ts';

/**
 * SCHED_IDLE for a whole cgroup: `cpu.idle`. When it is taken back the kernel forgets the weight and sets its default, and
 * while it is set a weight is refused: so the weight is an entry of its own, undone after the flag. Its `wanted` is what the
 * kernel leaves there, so that a crash between the two writes is finished by the next undo.
 * @see kernel/sched/fair.c sched_group_set_idle()
 */
export const idleActuator: Actuator = {
  validate: (kernel, move) =>
    move.tasks.length > 0
      ? [
          problem(
            'no-actuator',
            `instance ${move.instance.id}: idle belongs to a whole cgroup, got ${move.tasks.length} tasks; wanted none`,
          ),
        ]
      : cgroupProblems(kernel, move.instance.id, 'cpu.idle'),
  snapshot: (kernel, move) => {
    const path = move.instance.id;
    const flag = fileEntry(kernel, 'idle', path, 'cpu.idle', idleOf(move) ? '1' : '0');
    // An idle cgroup's old weight is already forgotten: nothing to give back.
    if (flag.before === flag.wanted || flag.before === '1')
      return { entries: [flag], widens: false };
    const kernelDefault = kernel.layout.version === 2 ? '100' : '1024';
    const weight = fileEntry(kernel, 'idle-weight', path, weightFile(kernel), kernelDefault);
    return { entries: [weight, flag], widens: false };
  },
  apply: (kernel, entries) =>
    applyFiles(
      kernel,
      entries.filter(entry => entry.kind === 'idle'),
    ),
  readBack: (kernel, entries) =>
    readBackFiles(kernel, entries).map((answer, i) =>
      entries[i]?.kind === 'idle-weight' ? { ...answer, ours: answer.held !== null } : answer,
    ),
  undo: (kernel, entries) =>
    entries.flatMap(entry => {
      const idle = readIdle(kernel.layout, entry.key) === true;
      return entry.kind === 'idle-weight' && idle
        ? { state: 'failed', message: `${entry.resource}: cpu.idle is still 1` }
        : undoFiles(kernel, [entry]);
    }),
  dryRun: move => `set cpu.idle of cgroup ${move.instance.id} to ${idleOf(move) ? 1 : 0}`,
};

function idleOf(move: Move): boolean {
  return 'idle' in move.set && move.set.idle;
}
