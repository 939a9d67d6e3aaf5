import type { Move } from '../../contract/recommendation.ts';
import { formatCpuList } from '../../linux/cpu-list.ts';
import { readCpuIds } from '../../linux/topology.ts';
import type { Kernel } from '../kernel.ts';
import type { Problem } from './actuator.ts';
import { problem } from './cgroup-file.ts';

/** The CPUs a move sets; empty for a move that sets something else. */
export function cpusOf(move: Move): readonly number[] {
  return 'cpus' in move.set ? move.set.cpus : [];
}

export function isWithin(inner: readonly number[], outer: readonly number[]): boolean {
  const all = new Set(outer);
  return inner.every(cpu => all.has(cpu));
}

export function intersection(a: readonly number[], b: readonly number[]): number[] {
  const all = new Set(b);
  return a.filter(cpu => all.has(cpu));
}

export function offlineProblems(kernel: Kernel, move: Move): Problem[] {
  const { online } = readCpuIds(kernel.roots);
  const wanted = cpusOf(move);
  return isWithin(wanted, online)
    ? []
    : [
        problem(
          'cpu-offline',
          `instance ${move.instance.id}: got CPUs ${formatCpuList(wanted)}; wanted online ones, ${formatCpuList(online)}`,
        ),
      ];
}
