import type { Observation } from './series.ts';

/** Quantiles of demand over the horizon, in cores, and where they come from. */
export type Demand = {
  readonly q50: number;
  readonly q90: number;
  readonly q95: number;
  readonly source: 'model' | 'naive' | 'ses' | 'windowQuantiles' | 'recent';
};

/**
 * Demand of a closed loop: tasks that sleep, run and wait in turn come back later when they have waited, so that without
 * the wait they would have used run / (1 − wait per task). Never more than run + wait, which is what an open loop asks.
 */
export function demandCores({ usedCores, waitCores }: Observation, tasks: number): number {
  const atLeast = Math.max(1, tasks, Math.ceil(usedCores + waitCores - 0.01));
  const waitPerTask = Math.min(0.95, waitCores / atLeast);
  return Math.min(usedCores + waitCores, usedCores / (1 - waitPerTask));
}

/** Without a model: the quantiles of what was demanded last, in cores. */
export function recentDemand(demands: readonly number[]): Demand {
  const sorted = [...demands].sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
  return { q50: at(0.5), q90: at(0.9), q95: at(0.95), source: 'recent' };
}
