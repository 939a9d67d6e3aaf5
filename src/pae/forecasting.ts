import { describeError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';
import type { Core } from './core.ts';
import type { Demand } from './demand.ts';
import { type ChallengerName, challenge, levels } from './models/challengers.ts';
import type { Forecaster } from './models/forecaster.ts';
import { createTrackRecord, type TrackRecord } from './track-record.ts';

export type ForecastCounters = {
  /** Forecasts of the model that held. */
  forecasts: number;
  /** Forecasts for which a simple challenger stepped in, because the model has been worse on that series. */
  fallbacks: number;
  /** Series that had too little data for the model yet, each second. */
  young: number;
  /** Forecasts of the model that were no numbers; simple ones hold meanwhile. */
  notFinite: number;
  /** Runs of the model that failed. */
  failures: number;
};

type SeriesState = {
  tensor: Float32Array;
  readonly record: TrackRecord;
  /** Who forecasts it now. */
  by: 'model' | ChallengerName;
  /** Time of the newest sample it was forecast from. */
  newest: number;
};

/** How far ahead a forecast is held against what came, in steps. */
const checkedHorizon = 3;
/** Failures that are said: the first of each minute's. */
const sayEvery = 60;

export type Forecasting = {
  /** Forecasts all series that have a whole window; the others keep the quantiles of what was seen last. */
  readonly run: (core: Core, now: number) => Promise<void>;
  /** Series that a simple challenger forecasts now, in place of the model. */
  readonly fallenBack: () => { readonly instance: string; readonly by: ChallengerName }[];
  readonly counters: () => Readonly<ForecastCounters>;
};

/**
 * The model on the 1 s clock. A series on which it has been worse than the naive forecast (the last value) of late is
 * forecast by the best simple challenger instead, and that is counted and said.
 */
export function createForecasting(forecaster: Forecaster, say: Say): Forecasting {
  const states = new Map<string, SeriesState>();
  const counters: ForecastCounters = {
    forecasts: 0,
    fallbacks: 0,
    young: 0,
    notFinite: 0,
    failures: 0,
  };
  const { windowSteps, horizonSteps, quantiles } = forecaster.manifest;
  const columns = levels.map(level => quantiles.indexOf(level));

  const stateOf = (instanceId: string): SeriesState => {
    const state = states.get(instanceId) ?? {
      tensor: new Float32Array(forecaster.stateWidth),
      record: createTrackRecord(checkedHorizon),
      by: 'model',
      newest: 0,
    };
    states.set(instanceId, state);
    return state;
  };

  const take = (
    core: Core,
    instanceId: string,
    window: Float32Array,
    output: Float32Array,
  ): void => {
    const state = stateOf(instanceId);
    const at = (h: number, column: number) => output[h * quantiles.length + column] ?? 0;
    const simple = challenge(window);
    state.record.add({ model: columns.map(column => at(checkedHorizon - 1, column)), ...simple });
    const by = state.record.best();
    if (by !== state.by)
      say('info', `engine: ${instanceId} is forecast by ${by} from now on, not by ${state.by}`);
    state.by = by;
    if (by !== 'model') counters.fallbacks += 1;
    else counters.forecasts += 1;
    // The largest over the horizon: a move has to be enough for all of it.
    const worst = (column: number) => {
      let most = at(0, column);
      for (let h = 1; h < horizonSteps; h += 1) most = Math.max(most, at(h, column));
      return most;
    };
    const [q50 = 0, q90 = 0, q95 = 0] = by === 'model' ? columns.map(worst) : simple[by];
    core.setForecast(instanceId, { q50, q90, q95, source: by } satisfies Demand);
  };

  const gather = (core: Core, now: number): Map<string, Float32Array> => {
    const windows = new Map<string, Float32Array>();
    const alive = new Set(core.series.instances());
    for (const id of states.keys()) if (!alive.has(id)) states.delete(id);
    for (const id of alive) {
      const newest = core.series.recent(id, 1)[0]?.time ?? 0;
      // Nothing has come since: the last value would be right again and again, and the model worse than that.
      if (newest > 0 && states.get(id)?.newest === newest) continue;
      const window = core.demandWindow(id, now, windowSteps);
      if (window.length < windowSteps) {
        counters.young += 1;
        // A gap: what was said before it says nothing of what comes after.
        states.delete(id);
        continue;
      }
      const state = stateOf(id);
      state.record.settle(window.at(-1) ?? 0);
      state.newest = newest;
      windows.set(id, Float32Array.from(window));
    }
    return windows;
  };

  return {
    run: async (core, now) => {
      const windows = gather(core, now);
      if (windows.size === 0) return;
      const ids = [...windows.keys()];
      try {
        const answer = await forecaster.forecast(
          [...windows.values()],
          ids.map(id => stateOf(id).tensor),
        );
        for (const [i, id] of ids.entries()) {
          const [window, output, tensor] = [windows.get(id), answer.quantiles[i], answer.states[i]];
          if (!window || !output || !tensor) continue;
          if (![output, tensor].every(values => values.every(Number.isFinite))) {
            // It would go on through all that is planned with it, and by the state through every later forecast.
            counters.notFinite += 1;
            states.delete(id);
            continue;
          }
          stateOf(id).tensor = tensor;
          take(core, id, window, output);
        }
      } catch (error) {
        counters.failures += 1;
        if (counters.failures % sayEvery === 1) {
          const why = describeError(error);
          say('warn', `engine: the model failed, simple forecasts hold meanwhile: ${why}`);
        }
      }
    },
    fallenBack: () =>
      [...states].flatMap(([instance, { by }]) => (by === 'model' ? [] : { instance, by })),
    counters: () => ({ ...counters }),
  };
}
