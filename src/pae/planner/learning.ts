import type { Action } from '../../contract/action.ts';
import type { MoveKind } from './candidates.ts';
import type { Trust } from './choose.ts';

/** Before anything was measured: predictions are taken as they are, with a wide interval. */
const unknown: Trust = { factor: 1, spread: 0.3 };
/** Weight of the newest action: about the last three count. */
const rate = 0.3;
/** One miss says no more than this, so that a single bad action does not condemn its kind. */
const largestMiss = 0.6;
/** After this half of what was learned is forgotten: a kind that is not tried could not show that it got better. */
const halfLifeSeconds = 300;

export type Learning = {
  /** What a kind's predictions are worth at `now`, seconds since the epoch. */
  readonly trust: (kind: MoveKind, now: number) => Trust;
  /** Takes an action that was decided upon; one that was not measured teaches nothing. */
  readonly take: (kind: MoveKind, action: Action) => void;
};

/** Corrects each kind's predicted gain by what actions of that kind really brought: an exponential mean, bounded. */
export function createLearning(): Learning {
  const byKind = new Map<MoveKind, Trust & { readonly at: number }>();

  const trust = (kind: MoveKind, now: number): Trust => {
    const learned = byKind.get(kind);
    if (!learned) return unknown;
    const kept = 0.5 ** (Math.max(0, now - learned.at) / halfLifeSeconds);
    const between = (from: number, to: number) => from + kept * (to - from);
    return {
      factor: between(unknown.factor, learned.factor),
      spread: between(unknown.spread, learned.spread),
    };
  };

  return {
    trust,
    take: (kind, action) => {
      if (!action.realised || !action.predicted || action.predicted.gainRatio <= 0) return;
      const { factor, spread } = trust(kind, action.at);
      const realised = action.realised.gainRatio;
      // The prediction had the factor in it already: what it should have been is the factor times this.
      const ratio = Math.max(0, realised / action.predicted.gainRatio);
      const miss = Math.min(largestMiss, Math.abs(realised - action.predicted.gainRatio));
      byKind.set(kind, {
        factor: bounded(factor + rate * (factor * ratio - factor), 0.3, 1.2),
        spread: bounded(spread + rate * (miss - spread), 0.05, 0.5),
        at: action.at,
      });
    },
  };
}

function bounded(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
