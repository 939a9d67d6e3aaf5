import {
  type ChallengerName,
  challengerNames,
  pinballLoss,
  type SimpleForecast,
} from './models/challengers.ts';

type Forecasts = { readonly model: readonly number[] } & Readonly<
  Record<ChallengerName, SimpleForecast>
>;
type Name = keyof Forecasts;

/** Recent losses weigh most: a mean of about the last 20. */
const decay = 0.95;
/** The model is given this much, so that two that are equally good do not take turns. */
const tolerance = 1.05;
/** And this much of a core: losses below are of no consequence. */
const toleranceCores = 0.01;
/** Before so many forecasts have come due the model is trusted as its manifest measured it. */
const leastSettled = 5;

const names: readonly Name[] = ['model', ...challengerNames];

/** How good each forecast of one series has been of late: the pinball loss over its quantiles, some steps ahead. */
export type TrackRecord = {
  /** What each says now of the step `horizon` ahead. Once a step, after `settle`. */
  readonly add: (forecasts: Forecasts) => void;
  /** What this step came to, in cores: the forecasts that were made for it are scored. */
  readonly settle: (actual: number) => void;
  /** Who should forecast: the model, unless it has been worse than the naive; then the best simple one. */
  readonly best: () => Name;
};

export function createTrackRecord(horizon: number): TrackRecord {
  const pending: Forecasts[] = [];
  const losses: Record<Name, number> = { model: 0, naive: 0, ses: 0, windowQuantiles: 0 };
  let settled = 0;
  let weight = 0;
  return {
    add: forecasts => void pending.push(forecasts),
    settle: actual => {
      if (pending.length < horizon) return;
      const due = pending.shift();
      if (!due) return;
      settled += 1;
      weight = decay * weight + 1;
      for (const name of names)
        losses[name] = decay * losses[name] + pinballLoss(due[name], actual);
    },
    best: () => {
      const worse = losses.model > tolerance * losses.naive + toleranceCores * weight;
      if (settled < leastSettled || !worse) return 'model';
      return challengerNames.reduce((a, b) => (losses[b] < losses[a] ? b : a));
    },
  };
}
