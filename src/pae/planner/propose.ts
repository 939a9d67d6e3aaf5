import type { EngineConfig } from '../../contract/config.ts';
import type { Placement } from '../../contract/host.ts';
import {
  type ModelIdentity,
  type Move,
  mostCosts,
  type Predicted,
  type Recommendation,
} from '../../contract/recommendation.ts';
import type { Demand } from '../demand.ts';
import { classOf, type HostModel } from '../host-model.ts';
import type { Observation } from '../series.ts';
import type { Candidate } from './candidates.ts';
import type { Choice } from './choose.ts';
import type { Contention } from './contenders.ts';

/** What is known of a beneficiary at the moment of the proposal. */
export type Grounds = {
  readonly host: HostModel;
  readonly placement: Placement;
  readonly observation: Observation;
  readonly demand: Demand;
  readonly supplyCores: number;
  readonly contention: Contention;
};

export type Proposal = {
  readonly id: string;
  readonly now: number;
  readonly config: Pick<EngineConfig, 'expirySeconds' | 'leaseSeconds'>;
  readonly model: ModelIdentity;
};

/** How likely the realised gain lies within the interval. */
const intervalProbability = 0.9;

/** The recommendation of a candidate that was chosen, with its evidence. */
export function propose(
  grounds: Grounds,
  choice: Choice,
  candidate: Candidate & { readonly moves: Move[] },
  proposal: Proposal,
): Recommendation {
  const { usedCores, waitCores } = grounds.observation;
  const without = waitCores / (usedCores + waitCores);
  return {
    ...common(grounds, proposal),
    moves: candidate.moves,
    predicted: {
      metric: 'sculptor.runqueue.wait.ratio',
      without,
      with: without * (1 - choice.gainRatio),
      gainRatio: choice.gainRatio,
      interval: choice.interval,
      probability: intervalProbability,
    },
    cost: candidate.losses
      .map(({ instance, lossRatio }) => ({ instance, lossRatio }))
      .sort((a, b) => b.lossRatio - a.lossRatio)
      .slice(0, mostCosts),
    evidence: evidenceOf(grounds, choice, candidate.size),
  };
}

/** The renewal of a running action: the same moves for another lease. */
export function proposeRenewal(
  grounds: Grounds,
  action: { readonly id: string; readonly moves: Move[]; readonly predicted: Predicted | null },
  proposal: Proposal,
): Recommendation {
  const gainRatio = action.predicted?.gainRatio ?? 0;
  const choice: Choice = { candidate: null, gainRatio, interval: [0, gainRatio], alternatives: [] };
  return {
    ...common(grounds, proposal),
    renews: action.id,
    moves: action.moves,
    predicted: action.predicted ?? {
      metric: 'sculptor.runqueue.wait.ratio',
      without: 0,
      with: 0,
      gainRatio: 0,
      interval: [0, 0],
      probability: intervalProbability,
    },
    cost: [],
    evidence: evidenceOf(grounds, choice, 'the same moves, which are still needed'),
  };
}

function common({ placement }: Grounds, { id, now, config, model }: Proposal) {
  return {
    id,
    created: now,
    expires: now + config.expirySeconds,
    leaseSeconds: config.leaseSeconds,
    hostId: placement.hostId,
    beneficiary: placement.instance,
    mechanism: 'direct' as const,
    model,
  };
}

function evidenceOf(grounds: Grounds, choice: Choice, size: string): Recommendation['evidence'] {
  const { host, placement, observation, demand, supplyCores, contention } = grounds;
  const { usedCores, waitCores, throttledCores } = observation;
  const { id } = placement.instance;
  const { q50, q90, q95, source } = demand;
  return {
    summary: `${id} waits ${waitCores.toFixed(2)} cores beside ${contention.contenders.length} others (it uses ${usedCores.toFixed(2)}); forecast demand ${q95.toFixed(2)} cores (${source}), share worth ${supplyCores.toFixed(2)}: ${size}`,
    class: classOf(host, id),
    demandCores: { q50, q90, q95 },
    supplyCores,
    observed: { usedCores, waitCores, throttledCores },
    contenders: contention.contenders.map(each => each.placement.instance.id).slice(0, 256),
    alternatives: choice.alternatives,
  };
}
