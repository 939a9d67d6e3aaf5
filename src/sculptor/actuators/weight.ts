import type { Move } from '../../contract/recommendation.ts';
import { readIdle } from '../../linux/cgroups.ts';
import type { Kernel } from '../kernel.ts';
import type { Actuator } from './actuator.ts';
import {
  applyFiles,
  cgroupProblems,
  fileEntry,
  problem,
  readBackFiles,
  undoFiles,
} from './cgroup-file.ts';

/** The share of CPU time a cgroup gets among its siblings: `cpu.weight` on v2, `cpu.shares` on v1. */
export const weightActuator: Actuator = {
  validate: (kernel, move) => {
    if (move.tasks.length > 0) {
      return [
        problem(
          'no-actuator',
          `instance ${move.instance.id}: a weight belongs to a whole cgroup, got ${move.tasks.length} tasks; wanted none`,
        ),
      ];
    }
    const problems = cgroupProblems(kernel, move.instance.id, weightFile(kernel));
    if (problems.length === 0 && readIdle(kernel.layout, move.instance.id) === true) {
      return [
        problem(
          'no-actuator',
          `instance ${move.instance.id}: cpu.idle is 1, and the kernel refuses a weight then; wanted 0`,
        ),
      ];
    }
    return problems;
  },
  snapshot: (kernel, move) => ({
    entries: [
      fileEntry(kernel, 'weight', move.instance.id, weightFile(kernel), kernelWeight(kernel, move)),
    ],
    widens: false,
  }),
  apply: applyFiles,
  readBack: readBackFiles,
  undo: (kernel, entries) => undoFiles(kernel, entries),
  dryRun: move => `set the weight of cgroup ${move.instance.id} to ${weightOf(move)}`,
};

export function weightFile(kernel: Kernel): 'cpu.weight' | 'cpu.shares' {
  return kernel.layout.version === 2 ? 'cpu.weight' : 'cpu.shares';
}

/** The contract's unit is v2's; 100 there is 1024 shares on v1. */
function kernelWeight(kernel: Kernel, move: Move): string {
  const weight = weightOf(move);
  return String(
    kernel.layout.version === 2 ? weight : Math.max(2, Math.round((weight * 1024) / 100)),
  );
}

function weightOf(move: Move): number {
  return 'weight' in move.set ? move.set.weight : 100;
}
