import { instancePolicyOf, type Policy } from '../../contract/policy.ts';
import type { Alternative } from '../../contract/recommendation.ts';
import type { Candidate, MoveKind } from './candidates.ts';

/** How much of a kind's predicted gain has come true, learned from actions; with the spread that its interval shows. */
export type Trust = { readonly factor: number; readonly spread: number };

export type Choice = {
  readonly candidate: Candidate | null;
  readonly gainRatio: number;
  readonly interval: [number, number];
  readonly alternatives: Alternative[];
};

/**
 * The smallest move that is enough. The candidates come in the order of preference: what costs nobody, a weight, idle, then
 * fewer CPUs for the others. Each is weighed, and the evidence says why not the others.
 */
export function choose(
  candidates: readonly Candidate[],
  policy: Policy,
  trust: (kind: MoveKind) => Trust,
): Choice {
  let chosen: Candidate | null = null;
  const alternatives = candidates.map((candidate): Alternative => {
    const { factor, spread } = trust(candidate.kind);
    const gainRatio = candidate.moves === null ? 0 : (1 - candidate.waitLeft) * factor;
    const lossRatio = Math.max(0, ...candidate.losses.map(loss => loss.lossRatio));
    const refusal = refuse(candidate, gainRatio - spread, policy, chosen);
    if (refusal === null) chosen = candidate;
    return {
      kind: candidate.kind,
      size: candidate.size,
      gainRatio,
      lossRatio,
      chosen: refusal === null,
      why: refusal ?? candidate.why,
    };
  });
  const kind = (chosen as Candidate | null)?.kind ?? 'none';
  const { spread } = trust(kind);
  const gainRatio = alternatives.find(alternative => alternative.chosen)?.gainRatio ?? 0;
  return {
    candidate: chosen,
    gainRatio,
    interval: [gainRatio - spread, Math.min(1, gainRatio + spread)],
    alternatives,
  };
}

function refuse(
  candidate: Candidate,
  lowerGain: number,
  policy: Policy,
  chosen: Candidate | null,
): string | null {
  if (candidate.moves === null) return candidate.why;
  const protectedMove = candidate.moves.find(
    move => instancePolicyOf(policy, move.instance.id)?.protected,
  );
  if (protectedMove) return `${protectedMove.instance.id} is protected`;
  const tooMuch = candidate.losses.find(loss => loss.lossRatio > loss.limitRatio);
  if (tooMuch) {
    return `${tooMuch.instance} would lose ${percent(tooMuch.lossRatio)}, more than the ${percent(tooMuch.limitRatio)} it may`;
  }
  if (lowerGain < policy.minGainRatio) {
    return `the gain may be as low as ${percent(lowerGain)}, below the ${percent(policy.minGainRatio)} that a move must bring`;
  }
  if (chosen) return `${chosen.kind} is enough, and ${smaller(chosen, candidate)}`;
  return null;
}

function smaller(chosen: Candidate, candidate: Candidate): string {
  const loss = (c: Candidate) => Math.max(0, ...c.losses.map(({ lossRatio }) => lossRatio));
  const [ours, theirs] = [loss(chosen), loss(candidate)];
  if (theirs > ours + 0.005)
    return `this would cost the others ${percent(theirs)} instead of ${percent(ours)}`;
  return `touches ${chosen.moves?.length ?? 0} instead of ${candidate.moves?.length ?? 0} instances`;
}

function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(0)} %`;
}
