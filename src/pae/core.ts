import { type Action, finalActionStates } from '../contract/action.ts';
import type { EngineConfig } from '../contract/config.ts';
import type { Placement } from '../contract/host.ts';
import { type Mode, type Policy, strictestMode } from '../contract/policy.ts';
import type { ModelIdentity, Recommendation, Withdrawal } from '../contract/recommendation.ts';
import { contentionWindows, isContended } from './contended.ts';
import { type Demand, demandCores, recentDemand } from './demand.ts';
import {
  createHostModel,
  dropLapsed,
  goneUntold,
  type HostModel,
  infer,
  ruleOf,
  takeAction,
} from './host-model.ts';
import { candidatesOf, type MoveKind } from './planner/candidates.ts';
import { weightOf } from './planner/cgroup-tree.ts';
import { choose } from './planner/choose.ts';
import { createClaims } from './planner/claims.ts';
import { type Look, lookAt } from './planner/contenders.ts';
import { createLearning } from './planner/learning.ts';
import {
  type BeneficiaryMemory,
  createMemory,
  endPauses,
  pauseSeconds,
  remember,
  withoutRefused,
} from './planner/memory.ts';
import { type Grounds, propose, proposeRenewal } from './planner/propose.ts';
import { shareOf } from './planner/sizing.ts';
import { stillNeeded } from './planner/still-needed.ts';
import { createSeriesStore, isSilent, type Observation, type SeriesStore } from './series.ts';
import { describeMoves, isThrottled, type Judgement, judgeCalm, type Verdict } from './verdict.ts';

/** What a class is inferred from: 2.4 s at the read interval. */
const inferWindows = 12;
/** How long a running action must have been without need before it is given back. */
const calmSeconds = 10;
/** Recommendations whose kind is remembered until their actions have told how they went. */
const rememberedKinds = 1000;
/** Steps without which the quantiles of what was seen last say nothing. */
const leastSteps = 5;

export type CoreOptions = {
  readonly config: EngineConfig;
  readonly model: ModelIdentity;
  /** A new UUID; seeded in tests, so that a recorded stream replays to the same recommendations. */
  readonly newId: () => string;
};

export type Output = {
  readonly recommendations: Recommendation[];
  readonly withdrawals: Withdrawal[];
};

export type Core = {
  readonly host: HostModel;
  readonly series: SeriesStore;
  /** Sets what the forecaster says of an instance's demand. */
  readonly setForecast: (instanceId: string, demand: Demand) => void;
  /** Demand of the last `count` steps, oldest first: the forecaster's window. */
  readonly demandWindow: (instanceId: string, now: number, count: number) => number[];
  readonly takeObservation: (instanceId: string, observation: Observation) => void;
  readonly takeAction: (action: Action) => void;
  /** The sculptor's policy, and the mode that holds now: when it allows what it refused, that is recommended again. */
  readonly takePolicy: (policy: Policy, mode: Mode) => void;
  readonly forget: (instanceId: string) => void;
  /** Judges these instances (all when absent) at `now`, seconds since the epoch. */
  readonly judge: (now: number, instanceIds?: Iterable<string>) => Output;
  readonly verdicts: () => Verdict[];
};

/** The engine without sockets, clock and threads: the same input gives the same output. */
export function createCore(options: CoreOptions): Core {
  const { config, model, newId } = options;
  const host = createHostModel();
  const series = createSeriesStore(config.maxSeries);
  const latest = new Map<string, Observation>();
  const forecasts = new Map<string, Demand>();
  const verdicts = new Map<string, Verdict>();
  const memories = new Map<string, BeneficiaryMemory>();
  const claims = createClaims(host);
  /** Kind of each recommendation that is out, by its id: an action names only its moves. */
  const kinds = new Map<string, MoveKind>();
  const learning = createLearning();

  const memoryOf = (instanceId: string): BeneficiaryMemory => {
    const memory = memories.get(instanceId) ?? createMemory();
    memories.set(instanceId, memory);
    return memory;
  };

  const forget = (instanceId: string): void => {
    for (const map of [latest, forecasts, verdicts, memories, host.placements])
      map.delete(instanceId);
    claims.forget(instanceId);
    host.running.delete(instanceId);
    host.inferred.delete(instanceId);
    series.forget(instanceId);
  };

  const demandOf = (placement: Placement, observation: Observation): Demand => {
    const forecast = forecasts.get(placement.instance.id);
    const now = demandCores(observation, placement.taskCount);
    if (!forecast) return { q50: now, q90: now, q95: now, source: 'recent' };
    // What is asked for at this moment is part of the horizon.
    return { ...forecast, q90: Math.max(forecast.q90, now), q95: Math.max(forecast.q95, now) };
  };

  const groundsOf = (placement: Placement, observation: Observation, look: Look): Grounds => {
    const contention = look(placement);
    const demand = demandOf(placement, observation);
    const tasks = Math.max(1, Math.ceil(demand.q95));
    // The tasks of a cgroup share its weight; without one they compete one by one.
    const sharing = placement.cgroup.weight === null ? 1 : tasks;
    const share = shareOf(weightOf(placement), contention.contendersWeight * sharing);
    const quota = placement.cgroup.quotaCores ?? Number.POSITIVE_INFINITY;
    // The scheduler wastes nothing: beyond its share an instance gets what the others leave idle.
    const idle = contention.cpus.reduce((sum, cpu) => sum + (host.idle.get(cpu) ?? 0), 0);
    const supplyCores = Math.min(
      quota,
      contention.cpus.length,
      Math.max(tasks * share, observation.usedCores + idle),
    );
    return { host, placement, observation, demand, supplyCores, contention };
  };

  const judgeOne = (grounds: Grounds, now: number, output: Output): Judgement => {
    const { instance } = grounds.placement;
    const running = host.running.get(instance.id);
    if (running) {
      attend(running, grounds, now, output);
      return ['acting', `action ${running.id} holds ${describeMoves(running.moves)}`];
    }
    const windows = series.recent(instance.id, contentionWindows);
    if (isThrottled(grounds.observation) || !isContended(windows, host.policy.contention, now))
      return judgeCalm(grounds.observation, grounds.demand.q90, grounds.supplyCores);
    if (instance.id === '/')
      return ['blocked', 'the root cgroup holds the host itself: nothing is moved for it'];
    return seek(grounds, now, output);
  };

  /** The smallest sufficient move for an instance that waits. */
  const seek = (grounds: Grounds, now: number, output: Output): Judgement => {
    const { instance } = grounds.placement;
    const memory = memoryOf(instance.id);
    const { placement, contention, demand, observation } = grounds;
    const candidates = candidatesOf({
      ...{ host, placement, contention, escalation: memory.escalation },
      ...{ demandCores: demand.q95, usedCores: observation.usedCores },
    });
    const choice = choose(withoutRefused(candidates, memory, now), host.policy, kind =>
      learning.trust(kind, now),
    );
    const { candidate } = choice;
    if (!candidate?.moves) {
      const each = choice.alternatives.map(({ kind, why }) => `${kind}: ${why}`).join('; ');
      return ['blocked', `it waits, and no move is worth it: ${each}`];
    }
    const { moves } = candidate;
    if (now < memory.awaitsYesUntil)
      return ['hot', 'it waits; what was recommended for it needs a yes: see `sculpt actions`'];
    if (now < memory.pausedUntil)
      return ['hot', `it waits; ${candidate.size} was recommended a moment ago`];
    const involved = [instance.id, ...moves.map(move => move.instance.id)];
    const held = claims.heldBy(involved, now);
    if (held) return ['hot', `it waits; a move for ${held} comes first, which may be enough`];
    memory.pausedUntil = now + pauseSeconds.open;
    const recommendation = propose(grounds, choice, { ...candidate, moves }, newProposal(now));
    // Who shares the widened one's CPUs gains by it too: one move at a time tells whether it was enough.
    const relieved =
      candidate.kind === 'widen'
        ? grounds.contention.contenders.map(contender => contender.placement.instance.id)
        : [];
    claims.claim([...involved, ...relieved], instance.id, now + pauseSeconds.open);
    kinds.set(recommendation.id, candidate.kind);
    dropOldest(kinds, rememberedKinds);
    output.recommendations.push(recommendation);
    return ['recommended', recommendation.evidence.summary];
  };

  const newProposal = (now: number) => ({ id: newId(), now, config, model });

  /** Renews what is still needed at half its lease, and gives back what is not. */
  const attend = (action: Action, grounds: Grounds, now: number, output: Output): void => {
    const { placement, contention, observation } = grounds;
    const memory = memoryOf(placement.instance.id);
    if (stillNeeded(action, placement, contention, observation)) memory.calmSince = null;
    else memory.calmSince ??= now;
    if (memory.calmSince !== null && now - memory.calmSince >= calmSeconds) {
      memory.calmSince = now;
      output.withdrawals.push({
        id: newId(),
        created: now,
        expires: now + config.expirySeconds,
        hostId: placement.hostId,
        actionId: action.id,
        reason: `for ${calmSeconds} s nothing has competed with ${placement.instance.id}`,
      });
      return;
    }
    const due = action.leaseEnds !== null && now >= action.leaseEnds - config.leaseSeconds / 2;
    const isPaused = now < memory.awaitsYesUntil || now - memory.renewedAt < pauseSeconds.refused;
    if (action.state !== 'kept' || !due || isPaused) return;
    memory.renewedAt = now;
    output.recommendations.push(proposeRenewal(grounds, action, newProposal(now)));
  };

  return {
    host,
    series,
    setForecast: (instanceId, demand) => {
      forecasts.set(instanceId, demand);
      dropOldest(forecasts, config.maxSeries);
    },
    demandWindow: (instanceId, now, count) => {
      const tasks = host.placements.get(instanceId)?.taskCount ?? 1;
      const steps = series.steps(instanceId, now, config.stepSeconds, count);
      const demands = steps.map(step => demandCores(step, tasks));
      if (demands.length >= leastSteps) forecasts.set(instanceId, recentDemand(demands));
      return demands;
    },
    takeObservation: (instanceId, observation) => {
      latest.set(instanceId, observation);
      dropOldest(latest, config.maxSeries);
    },
    takeAction: action => {
      takeAction(host, action);
      const id = action.beneficiary?.id;
      if (id === undefined) return;
      const kind = kinds.get(action.recommendationId);
      // Once for each action, when it was decided: later states repeat what was measured.
      if (kind !== undefined && (action.state === 'kept' || action.state === 'rolled-back')) {
        learning.take(kind, action);
        kinds.delete(action.recommendationId);
      }
      const memory = memoryOf(id);
      remember(memory, action, kind);
      if (memory.awaitsYesUntil > 0) claims.prolong(id, memory.awaitsYesUntil);
      else if (finalActionStates.has(action.state)) claims.release(id);
      dropOldest(memories, config.maxSeries);
    },
    takePolicy: (policy, mode) => {
      host.policy = policy;
      if (mode === 'off' || mode === 'observe') return;
      for (const [id, memory] of memories) {
        const its = strictestMode([mode, ruleOf(host, id)?.mode ?? mode]);
        if (endPauses(memory, its)) claims.release(id);
      }
    },
    forget,
    judge: (now, instanceIds) => {
      const output: Output = { recommendations: [], withdrawals: [] };
      // Of those that ended while there was no agent to tell it nobody hears again: they want nothing any more.
      if (instanceIds === undefined) {
        for (const [id, observation] of latest) if (isSilent(observation, now)) latest.delete(id);
        for (const id of goneUntold(host, latest, now)) forget(id);
        dropLapsed(host, now);
      }
      // Who competes with whom is told by the CPUs: without them nobody would seem to, and what runs would be given back.
      if (host.topology === null) return output;
      const look = lookAt(host, latest);
      for (const id of instanceIds ?? host.placements.keys()) {
        const placement = host.placements.get(id);
        const observation = latest.get(id);
        if (!placement || !observation || ruleOf(host, id)?.mode === 'off') {
          verdicts.delete(id);
          continue;
        }
        infer(host, placement, series.recent(id, inferWindows));
        const grounds = groundsOf(placement, observation, look);
        const [state, why] = judgeOne(grounds, now, output);
        const { usedCores, waitCores, throttledCores } = observation;
        verdicts.set(id, {
          instance: id,
          state,
          why,
          usedCores,
          waitCores,
          throttledCores,
          demandCores: grounds.demand.q95,
          supplyCores: grounds.supplyCores,
        });
      }
      return output;
    },
    verdicts: () => [...verdicts.values()],
  };
}

function dropOldest(map: Map<string, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return;
    map.delete(key);
  }
}
