import type { Action } from '../contract/action.ts';
import type { EngineConfig } from '../contract/config.ts';
import type { Placement } from '../contract/host.ts';
import { instancePolicyOf } from '../contract/policy.ts';
import type { ModelIdentity, Recommendation, Withdrawal } from '../contract/recommendation.ts';
import { type Demand, demandCores, recentDemand } from './demand.ts';
import { classOf, createHostModel, type HostModel, takeAction } from './host-model.ts';
import { candidatesOf, type MoveKind, type Situation } from './planner/candidates.ts';
import { type Choice, choose } from './planner/choose.ts';
import { type Contention, contentionOf, weightOf } from './planner/contenders.ts';
import { createLearning } from './planner/learning.ts';
import { shareOf, wantedShare } from './planner/sizing.ts';
import { createSeriesStore, type Observation, type SeriesStore } from './series.ts';
import type { Verdict } from './verdict.ts';

/** Two read intervals of contention in a row are no accident; one may be a start-up or a burst. */
const contendedWindows = 2;
/** How long a running action must have been without need before it is given back. */
const calmSeconds = 10;
/** How long after an answer the same beneficiary is left alone, by what was answered. */
const pauseSeconds = { mode: 5, refused: 10, failed: 30, open: 15 } as const;

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

type Memory = {
  pausedUntil: number;
  escalation: number;
  calmSince: number | null;
  renewedAt: number;
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
  const memories = new Map<string, Memory>();
  /** Kind of each recommendation that is out, by its id: an action names only its moves. */
  const kinds = new Map<string, MoveKind>();
  const learning = createLearning();

  const memoryOf = (instanceId: string): Memory => {
    const memory = memories.get(instanceId) ?? {
      pausedUntil: 0,
      escalation: 0,
      calmSince: null,
      renewedAt: 0,
    };
    memories.set(instanceId, memory);
    return memory;
  };

  const demandOf = (placement: Placement, observation: Observation): Demand => {
    const forecast = forecasts.get(placement.instance.id);
    const now = demandCores(observation, placement.taskCount);
    if (!forecast) return { q50: now, q90: now, q95: now, source: 'recent' };
    // What is asked for at this moment is part of the horizon.
    return { ...forecast, q90: Math.max(forecast.q90, now), q95: Math.max(forecast.q95, now) };
  };

  const isContended = (instanceId: string): boolean => {
    const { waitCores, waitRatio } = host.policy.contention;
    const windows = series.recent(instanceId, contendedWindows);
    return (
      windows.length === contendedWindows &&
      windows.every(
        o => o.waitCores >= waitCores && o.waitCores >= waitRatio * (o.usedCores + o.waitCores),
      )
    );
  };

  const judgeOne = (placement: Placement, now: number, output: Output): void => {
    const instanceId = placement.instance.id;
    const observation = latest.get(instanceId);
    if (!observation) return;
    const contention = contentionOf(host, placement, latest);
    const demand = demandOf(placement, observation);
    const tasks = Math.max(1, Math.ceil(demand.q95));
    const share = shareOf(weightOf(placement), contention.contendersWeight * tasks);
    const supplyCores = Math.min(
      placement.cgroup.quotaCores ?? Number.POSITIVE_INFINITY,
      tasks * share,
    );
    const say = (state: Verdict['state'], why: string) =>
      verdicts.set(instanceId, {
        ...numbersOf(observation),
        instance: instanceId,
        state,
        why,
        demandCores: demand.q95,
        supplyCores,
      });

    const running = host.running.get(instanceId);
    if (running) {
      say('acting', `action ${running.id} holds ${describeMoves(running.moves)}`);
      attend(running, placement, contention, observation, now, output);
      return;
    }
    if (!isContended(instanceId)) {
      const [state, why] = calmVerdict(observation, demand.q95, supplyCores);
      say(state, why);
      return;
    }
    if (instanceId === '/') {
      say('blocked', 'the root cgroup holds the host itself: nothing is moved for it');
      return;
    }
    const situation: Situation = {
      host,
      placement,
      contention,
      demandCores: demand.q95,
      usedCores: observation.usedCores,
      escalation: memoryOf(instanceId).escalation,
    };
    const choice = choose(candidatesOf(situation), host.policy, learning.trust);
    if (!choice.candidate) {
      say(
        'blocked',
        `it waits, and no move is worth it: ${choice.alternatives.map(a => `${a.kind}: ${a.why}`).join('; ')}`,
      );
      return;
    }
    if (now < memoryOf(instanceId).pausedUntil) {
      say('hot', `it waits; ${choice.candidate.size} was recommended a moment ago`);
      return;
    }
    memoryOf(instanceId).pausedUntil = now + pauseSeconds.open;
    const recommendation = recommend(
      placement,
      observation,
      demand,
      supplyCores,
      contention,
      choice,
      now,
    );
    kinds.set(recommendation.id, choice.candidate.kind);
    if (kinds.size > 1000) kinds.delete([...kinds.keys()][0] ?? '');
    output.recommendations.push(recommendation);
    say('recommended', recommendation.evidence.summary);
  };

  const recommend = (
    placement: Placement,
    observation: Observation,
    demand: Demand,
    supplyCores: number,
    contention: Contention,
    choice: Choice,
    now: number,
  ): Recommendation => {
    const { candidate } = choice;
    const total = observation.usedCores + observation.waitCores;
    const without = observation.waitCores / total;
    const size = candidate?.size ?? '';
    return {
      id: newId(),
      created: now,
      expires: now + config.expirySeconds,
      leaseSeconds: config.leaseSeconds,
      hostId: placement.hostId,
      beneficiary: placement.instance,
      mechanism: 'direct',
      moves: candidate?.moves ?? [],
      predicted: {
        metric: 'sculptor.runqueue.wait.ratio',
        without,
        with: without * (1 - choice.gainRatio),
        gainRatio: choice.gainRatio,
        interval: choice.interval,
        probability: 0.9,
      },
      cost: candidate?.losses.map(({ instance, lossRatio }) => ({ instance, lossRatio })) ?? [],
      evidence: {
        summary: `${placement.instance.id} waits ${observation.waitCores.toFixed(2)} cores beside ${contention.contenders.length} others (it uses ${observation.usedCores.toFixed(2)}); forecast demand ${demand.q95.toFixed(2)} cores (${demand.source}), share worth ${supplyCores.toFixed(2)}: ${size}`,
        class: classOf(host, placement.instance.id),
        demandCores: { q50: demand.q50, q90: demand.q90, q95: demand.q95 },
        supplyCores,
        observed: numbersOf(observation),
        contenders: contention.contenders
          .map(contender => contender.placement.instance.id)
          .slice(0, 256),
        alternatives: choice.alternatives,
      },
      model,
    };
  };

  /** Renews what is still needed at half its lease, and gives back what is not. */
  const attend = (
    action: Action,
    placement: Placement,
    contention: Contention,
    observation: Observation,
    now: number,
    output: Output,
  ): void => {
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
    if (action.state !== 'kept' || !due || now - memory.renewedAt < pauseSeconds.refused) return;
    memory.renewedAt = now;
    const demand = demandOf(placement, observation);
    const choice: Choice = {
      candidate: null,
      gainRatio: action.predicted?.gainRatio ?? 0,
      interval: action.predicted?.interval ?? [0, 0],
      alternatives: [],
    };
    const renewal = recommend(placement, observation, demand, 0, contention, choice, now);
    output.recommendations.push({
      ...renewal,
      renews: action.id,
      moves: action.moves,
      predicted: action.predicted ?? renewal.predicted,
    });
  };

  /** Whether the contention would come back: the others still want the CPUs, and its own share would not do. */
  const stillNeeded = (
    action: Action,
    placement: Placement,
    contention: Contention,
    observation: Observation,
  ): boolean => {
    const widened = action.moves.find(
      move => 'cpus' in move.set && move.instance.id === placement.instance.id,
    );
    if (widened) {
      const before = action.allocations[0]?.before ?? '';
      const cpus = Math.max(1, before.split(',').filter(part => part !== '').length);
      const others = contention.contenders.reduce(
        (sum, contender) => sum + contender.observation.usedCores,
        0,
      );
      return observation.usedCores + others > cpus * 0.95;
    }
    const contenders =
      [...contention.contenders].reduce((sum, c) => sum + 100 * c.activity, 0) /
      Math.max(1, contention.cpus.length);
    return (
      observation.usedCores > 0.01 && shareOf(100, contenders) < wantedShare(observation.usedCores)
    );
  };

  return {
    host,
    series,
    setForecast: (instanceId, demand) => void forecasts.set(instanceId, demand),
    demandWindow: (instanceId, now, count) => {
      const tasks = host.placements.get(instanceId)?.taskCount ?? 1;
      const steps = series.steps(instanceId, now, config.stepSeconds, count);
      if (steps.length >= 5) forecasts.set(instanceId, recentDemand(steps, tasks));
      return steps.map(step => demandCores(step, tasks));
    },
    takeObservation: (instanceId, observation) => void latest.set(instanceId, observation),
    takeAction: action => {
      takeAction(host, action);
      const id = action.beneficiary?.id;
      if (id === undefined) return;
      const memory = memoryOf(id);
      const kind = kinds.get(action.recommendationId);
      if (kind !== undefined) learning.take(kind, action);
      if (action.state === 'kept') memory.escalation = 0;
      if (action.state === 'rejected' || action.state === 'deferred') {
        memory.pausedUntil =
          action.at + (action.reason?.code === 'mode' ? pauseSeconds.mode : pauseSeconds.refused);
      } else if (action.state === 'failed' || action.state === 'yielded') {
        memory.pausedUntil = action.at + pauseSeconds.failed;
      } else if (action.state === 'rolled-back') {
        // Not enough: the next size. Worse than before: this instance is left alone for a while.
        if (action.reason?.code === 'neutral')
          memory.escalation = Math.min(6, memory.escalation + 1);
        memory.pausedUntil = action.at + pauseSeconds.failed;
      } else if (action.state === 'restored') {
        memory.pausedUntil = action.at + 1;
      }
    },
    forget: instanceId => {
      for (const map of [latest, forecasts, verdicts, memories, host.placements, host.running])
        map.delete(instanceId);
      series.forget(instanceId);
    },
    judge: (now, instanceIds) => {
      const output: Output = { recommendations: [], withdrawals: [] };
      for (const id of instanceIds ?? host.placements.keys()) {
        const placement = host.placements.get(id);
        if (placement && instancePolicyOf(host.policy, id)?.mode !== 'off')
          judgeOne(placement, now, output);
      }
      return output;
    },
    verdicts: () => [...verdicts.values()],
  };
}

function numbersOf({
  usedCores,
  waitCores,
  throttledCores,
}: Observation): Pick<Verdict, 'usedCores' | 'waitCores' | 'throttledCores'> {
  return { usedCores, waitCores, throttledCores };
}

function calmVerdict(
  observation: Observation,
  demand: number,
  supply: number,
): [Verdict['state'], string] {
  const { waitCores, throttledCores, usedCores } = observation;
  if (throttledCores >= 0.05 && throttledCores > waitCores) {
    return [
      'throttled',
      `its own quota keeps it from running (${throttledCores.toFixed(2)} cores): no placement helps against that`,
    ];
  }
  if (usedCores + waitCores < 0.02) return ['calm', 'it is asleep'];
  return [
    'within-share',
    `its demand of ${demand.toFixed(2)} cores is within what its share is worth (${supply.toFixed(2)} cores), and it waits only ${waitCores.toFixed(3)} cores: the scheduler's own fairness protects it`,
  ];
}

function describeMoves(moves: Action['moves']): string {
  return moves.map(move => `${move.instance.id} ${JSON.stringify(move.set)}`).join(', ');
}
