import { randomUUID } from 'node:crypto';
import {
  type Action,
  type ActionReason,
  type ActionState,
  finalActionStates,
} from '../contract/action.ts';
import type { Mode } from '../contract/policy.ts';
import type { Clock } from '../contract/ports.ts';
import type { Recommendation } from '../contract/recommendation.ts';

/** Final actions that are kept in memory for `actions()`. */
const mostFinal = 500;
/**
 * Allocations of a final action that are kept, here and in the journal's row: all of hundreds of actions on thousands of threads
 * are more than an answer may have. The journal's entries have them all.
 */
export const keptAllocations = 100;
/** Recommendation id of an action whose recommendation could not be read. */
export const unknownId = '00000000-0000-0000-0000-000000000000';

export type ActionLog = ReturnType<typeof createActionLog>;

/** Makes actions and changes their state: each change is told by `emit`, in order. `past`: final ones, newest first. */
export function createActionLog(options: {
  readonly hostId: string;
  readonly clock: Clock;
  readonly emit: (action: Action) => void;
  readonly past?: readonly Action[];
  readonly newId?: () => string;
}) {
  const { hostId, clock, emit, newId = randomUUID } = options;
  const current = new Map<string, Action>();
  const final: Action[] = [...(options.past ?? [])].reverse().slice(-mostFinal);
  const put = (action: Action): Action => {
    if (finalActionStates.has(action.state)) {
      current.delete(action.id);
      // One that a start could not give back is among the past ones already.
      const known = final.findIndex(each => each.id === action.id);
      if (known >= 0) final.splice(known, 1);
      final.push({ ...action, allocations: action.allocations.slice(0, keptAllocations) });
      if (final.length > mostFinal) final.shift();
    } else {
      current.set(action.id, action);
    }
    emit(action);
    return action;
  };
  return {
    /** An action as it has become elsewhere. */
    put,
    begin: (recommendation: Recommendation | null, mode: Mode, knownId?: string): Action =>
      put({
        id: newId(),
        recommendationId: recommendation?.id ?? knownId ?? unknownId,
        hostId,
        state: 'received',
        previousState: null,
        mode,
        at: clock.unixSeconds(),
        reason: null,
        beneficiary: recommendation?.beneficiary ?? null,
        mechanism: null,
        mechanisms: [],
        moves: recommendation?.moves ?? [],
        allocations: [],
        predicted: recommendation?.predicted ?? null,
        realised: null,
        leaseEnds: null,
      }),
    /** The action in its next state; what the state brings with it is in `change`. */
    to: (
      action: Action,
      state: ActionState,
      reason: ActionReason | null,
      change: Partial<Action> = {},
    ): Action =>
      put({
        ...action,
        ...change,
        state,
        previousState: action.state,
        reason,
        at: clock.unixSeconds(),
      }),
    /** Newest first. */
    list: (): Action[] => [...current.values(), ...final].sort((a, b) => b.at - a.at),
  };
}

/** One sentence for people. */
export function actionSentence(action: Action): string {
  const whom = action.beneficiary ? ` for ${action.beneficiary.name}` : '';
  const why = action.reason ? `: ${action.reason.message}` : '';
  return `action ${action.id.slice(0, 8)}${whom}: ${action.state}${why}`;
}
