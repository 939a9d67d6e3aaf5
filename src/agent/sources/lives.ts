import type { LivingInstance } from '../instances/instances.ts';

/** Cgroup id → the life it belongs to, as far as it belongs to one. */
export type Lives = { readonly get: (cgroupId: number) => LivingInstance | null | undefined };

export function livesOf(living: readonly LivingInstance[]): Map<number, LivingInstance> {
  const lives = new Map<number, LivingInstance>();
  for (const one of living) for (const id of one.members.keys()) lives.set(id, one);
  return lives;
}

/** The cgroups of a reading that belong to no life. */
export function strangersIn(totals: ReadonlyMap<number, unknown>, lives: Lives): number[] {
  return [...totals.keys()].filter(id => !lives.get(id));
}
