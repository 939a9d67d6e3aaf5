import type { HostModel } from '../host-model.ts';

/** Instances that a recommendation moves, or should relieve, while it awaits its answer: one move at a time tells whether it was enough. */
export type Claims = {
  /** `by`: the beneficiary. `until`: seconds since the epoch. */
  readonly claim: (instanceIds: readonly string[], by: string, until: number) => void;
  /** What is claimed for it already. */
  readonly prolong: (by: string, until: number) => void;
  readonly release: (by: string) => void;
  readonly forget: (instanceId: string) => void;
  /** The beneficiary of a move, recommended or running, that one of these is part of already, the first of them aside; null: all are free. */
  readonly heldBy: (instanceIds: readonly string[], now: number) => string | null;
};

export function createClaims(host: HostModel): Claims {
  const claims = new Map<string, { readonly until: number; readonly by: string }>();
  return {
    claim: (instanceIds, by, until) => {
      for (const id of instanceIds) claims.set(id, { until, by });
    },
    prolong: (beneficiary, until) => {
      for (const [id, { by }] of claims) if (by === beneficiary) claims.set(id, { until, by });
    },
    release: beneficiary => {
      for (const [id, { by }] of claims) if (by === beneficiary) claims.delete(id);
    },
    forget: instanceId => void claims.delete(instanceId),
    heldBy: (instanceIds, now) => {
      for (const id of instanceIds) {
        const claim = claims.get(id);
        if (claim && now < claim.until && claim.by !== instanceIds[0]) return claim.by;
        for (const [beneficiary, action] of host.running)
          if (action.moves.some(move => move.instance.id === id)) return beneficiary;
      }
      return null;
    },
  };
}
