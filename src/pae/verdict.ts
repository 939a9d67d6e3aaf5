import type { Move } from '../contract/recommendation.ts';
import type { Observation } from './series.ts';

/** What the engine thinks of an instance now, in words: for people, and for the demonstration. */
export type Verdict = {
  readonly instance: string;
  readonly state:
    | 'calm'
    | 'within-share'
    | 'throttled'
    | 'hot'
    | 'recommended'
    | 'acting'
    | 'blocked';
  readonly why: string;
  readonly usedCores: number;
  readonly waitCores: number;
  readonly throttledCores: number;
  readonly demandCores: number;
  readonly supplyCores: number;
};

export type Judgement = readonly [state: Verdict['state'], why: string];

/** Below this an instance is asleep (cores). */
const asleepCores = 0.02;
/** Throttling below this is a single period's end (cores). */
const throttledCoresFelt = 0.05;

/** Demand so little above the supply is within what a forecast can tell. */
const tightRatio = 1.05;

/**
 * Whether a quota keeps an instance from running more than its neighbours do. A move that has it wait less has it throttled sooner, and it gets
 * no more for that.
 */
export function isThrottled({ waitCores, throttledCores }: Observation): boolean {
  return throttledCores >= throttledCoresFelt && throttledCores > waitCores;
}

/** Of an instance that does not wait, or not for its neighbours: why nothing is recommended. `q90` is the forecast demand in cores. */
export function judgeCalm(observation: Observation, q90: number, supplyCores: number): Judgement {
  const { waitCores, throttledCores, usedCores } = observation;
  if (isThrottled(observation)) {
    return [
      'throttled',
      `a quota, its own or one above it, keeps it from running (${throttledCores.toFixed(2)} cores): no placement helps against that`,
    ];
  }
  if (usedCores + waitCores < asleepCores) return ['calm', 'it is asleep'];
  if (q90 > supplyCores * tightRatio) {
    return [
      'hot',
      `it does not wait yet, but with a probability of 0.1 at least its demand comes to ${q90.toFixed(2)} cores or more, and its share beside the others is worth ${supplyCores.toFixed(2)}`,
    ];
  }
  return [
    'within-share',
    `its demand of ${q90.toFixed(2)} cores is within what its share is worth (${supplyCores.toFixed(2)} cores), and it waits only ${waitCores.toFixed(3)} cores: the scheduler's own fairness protects it`,
  ];
}

export function describeMoves(moves: readonly Move[]): string {
  return moves.map(move => `${move.instance.id} ${JSON.stringify(move.set)}`).join(', ');
}
