import type { Action } from '../../contract/action.ts';
import type { MoveKind } from './candidates.ts';
import type { Trust } from './choose.ts';

/** Before anything was measured: predictions are taken as they are, with a wide interval. */
const unknown: Trust = { factor: 1, spread: 0.3 };

export type Learning = {
  readonly trust: (kind: MoveKind) => Trust;
  readonly take: (kind: MoveKind, action: Action) => void;
};

/** Corrects each kind's predicted gain by what actions of that kind really brought: an exponential mean, bounded. */
export function createLearning(): Learning {
  const byKind = new Map<MoveKind, Trust>();
  return {
    trust: kind => byKind.get(kind) ?? unknown,
    take: (kind, action) => {
      if (!action.realised || !action.predicted || action.predicted.gainRatio <= 0) return;
      const { factor, spread } = byKind.get(kind) ?? unknown;
      const ratio = Math.min(
        1.5,
        Math.max(0, action.realised.gainRatio / action.predicted.gainRatio),
      );
      const miss = Math.abs(action.realised.gainRatio - action.predicted.gainRatio);
      byKind.set(kind, {
        factor: Math.min(1.2, Math.max(0.3, factor + 0.3 * (ratio - factor))),
        spread: Math.min(0.5, Math.max(0.05, spread + 0.3 * (miss - spread))),
      });
    },
  };
}
