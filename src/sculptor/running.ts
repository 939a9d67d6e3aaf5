import { createHash } from 'node:crypto';
import type { Action } from '../contract/action.ts';
import type { Recommendation } from '../contract/recommendation.ts';
import type { UndoEntry } from './actuators/actuator.ts';
import type { Watch } from './verify.ts';

/** An action that holds something. Times of the monotonic clock, in seconds. */
export type RunningAction = {
  action: Action;
  readonly recommendation: Recommendation;
  readonly entries: readonly UndoEntry[];
  readonly watch: Watch;
  readonly appliedAt: number;
  leaseEndsAt: number;
  lookAt: number;
  readBackAt: number;
};

/** A valid recommendation that waits for a person's yes. `until`: monotonic seconds. */
export type ParkedAction = {
  readonly action: Action;
  readonly recommendation: Recommendation;
  readonly until: number;
};

/** Names what a person said yes to: the same moves for the same beneficiary. */
export function movesKey(recommendation: Pick<Recommendation, 'beneficiary' | 'moves'>): string {
  const { beneficiary, moves } = recommendation;
  return createHash('sha256')
    .update(JSON.stringify([beneficiary.id, moves]))
    .digest('hex');
}
