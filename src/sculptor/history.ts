import type { Action } from '../contract/action.ts';
import type { Policy } from '../contract/policy.ts';

const hourSeconds = 3600;

type Past = { admitted: number[]; rollbacks: number; lastRollback: number };

/** What was done to instances lately, for the limits. Times in seconds since the epoch. */
export type History = ReturnType<typeof createHistory>;

/** `past`: actions of an earlier life, in any order. */
export function createHistory(past: readonly Action[]) {
  const instances = new Map<string, Past>();
  const of = (id: string): Past => {
    const known = instances.get(id) ?? { admitted: [], rollbacks: 0, lastRollback: 0 };
    instances.set(id, known);
    return known;
  };
  const history = {
    admitted: (ids: readonly string[], at: number): void => {
      for (const id of ids) of(id).admitted.push(at);
    },
    rolledBack: (ids: readonly string[], at: number): void => {
      for (const id of ids) {
        const known = of(id);
        known.rollbacks += 1;
        known.lastRollback = at;
      }
    },
    kept: (ids: readonly string[]): void => {
      for (const id of ids) of(id).rollbacks = 0;
    },
    admittedLastHour: (id: string, now: number): number =>
      (instances.get(id)?.admitted ?? []).filter(at => at > now - hourSeconds).length,
    /** Until when an instance is left alone, and why; null when it is not. Doubles with each roll-back in a row. */
    restsUntil: (
      id: string,
      policy: Policy,
      now: number,
    ): { until: number; why: 'cool-down' | 'frozen'; rollbacks: number } | null => {
      const { coolDownSeconds, freezeAfterRollbacks } = policy.limits;
      const known = instances.get(id);
      if (!known || known.rollbacks === 0) return null;
      const frozen = known.rollbacks >= freezeAfterRollbacks;
      const rest = frozen ? hourSeconds : coolDownSeconds * 2 ** (known.rollbacks - 1);
      const until = known.lastRollback + rest;
      return now < until
        ? { until, why: frozen ? 'frozen' : 'cool-down', rollbacks: known.rollbacks }
        : null;
    },
    /** Forgets what no limit looks at any more. */
    prune: (now: number): void => {
      for (const [id, known] of instances) {
        known.admitted = known.admitted.filter(at => at > now - hourSeconds);
        // A streak of roll-backs is forgotten after a day without one.
        if (known.admitted.length === 0 && known.lastRollback < now - 24 * hourSeconds)
          instances.delete(id);
      }
    },
  };
  for (const action of [...past].sort((a, b) => a.at - b.at)) {
    const ids = involved(action);
    if (action.leaseEnds !== null) history.admitted(ids, action.at);
    if (action.state === 'rolled-back') history.rolledBack(ids, action.at);
    else if (action.state === 'restored' && action.reason?.code === 'lease-ended')
      history.kept(ids);
  }
  return history;
}

/** The beneficiary and every moved instance, each once. */
export function involved(action: Pick<Action, 'beneficiary' | 'moves'>): string[] {
  return [
    ...new Set([
      ...(action.beneficiary ? [action.beneficiary.id] : []),
      ...action.moves.map(move => move.instance.id),
    ]),
  ];
}
