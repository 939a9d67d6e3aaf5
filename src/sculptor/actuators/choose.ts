import type { Move } from '../../contract/recommendation.ts';
import type { Kernel } from '../kernel.ts';
import type { Actuator, UndoEntry, UndoKind } from './actuator.ts';
import { affinityActuator } from './affinity.ts';
import { cpusetActuator, keepsOwnMasks } from './cpuset.ts';
import { idleActuator } from './idle.ts';
import { weightActuator } from './weight.ts';

/**
 * The actuator for a move; null when this version has none for what it sets. CPUs of a whole instance are its cpuset where
 * it has one of its own, else the masks of its threads.
 */
export function chooseActuator(kernel: Kernel, move: Move): Actuator | null {
  if ('weight' in move.set) return weightActuator;
  if ('idle' in move.set) return idleActuator;
  if ('cpus' in move.set) {
    return move.tasks.length === 0 && keepsOwnMasks(kernel, move)
      ? cpusetActuator
      : affinityActuator;
  }
  return null;
}

/** The actuator that undoes an entry. */
export const actuatorOf: Readonly<Record<UndoKind, Actuator>> = {
  weight: weightActuator,
  idle: idleActuator,
  'idle-weight': idleActuator,
  cpuset: cpusetActuator,
  affinity: affinityActuator,
  born: affinityActuator,
};

/** Runs of entries that one actuator handles, in their order: bulk calls instead of one each. */
export function runsOf<E extends UndoEntry>(entries: readonly E[]): E[][] {
  const runs: E[][] = [];
  for (const entry of entries) {
    const last = runs.at(-1);
    const kind = last?.[0]?.kind;
    if (last && kind !== undefined && actuatorOf[kind] === actuatorOf[entry.kind]) last.push(entry);
    else runs.push([entry]);
  }
  return runs;
}
