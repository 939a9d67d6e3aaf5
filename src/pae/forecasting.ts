import { describeError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';
import type { Core } from './core.ts';
import type { Demand } from './demand.ts';
import type { Forecaster } from './models/forecaster.ts';

export type ForecastCounters = { forecasts: number; fallbacks: number; failures: number };

/** What the model said of a series, kept to hold it against what came. */
type Past = { readonly step: number; readonly median: number; readonly naive: number };
type SeriesState = { tensor: Float32Array; past: Past[]; modelLoss: number; naiveLoss: number };

/** Recent errors weigh most: the mean of about the last 20 forecasts. */
const lossDecay = 0.95;
/** How far ahead a forecast is held against what came, in steps. */
const checkedHorizon = 3;

export type Forecasting = {
  /** Forecasts all series that have a whole window; the others keep the quantiles of what was seen last. */
  readonly run: (core: Core, now: number) => Promise<void>;
  readonly counters: () => Readonly<ForecastCounters>;
};

/**
 * The model on the 1 s clock. A series on which it has been worse than the naive forecast (the last value) of late is
 * forecast by what was seen last instead, and counted.
 */
export function createForecasting(forecaster: Forecaster, say: Say): Forecasting {
  const states = new Map<string, SeriesState>();
  const counters: ForecastCounters = { forecasts: 0, fallbacks: 0, failures: 0 };
  const { windowSteps, horizonSteps, quantiles } = forecaster.manifest;
  const columns = [0.5, 0.9, 0.95].map(q => quantiles.indexOf(q));
  let step = 0;

  const stateOf = (instanceId: string): SeriesState => {
    const state = states.get(instanceId) ?? {
      tensor: new Float32Array(forecaster.stateWidth),
      past: [],
      modelLoss: 0,
      naiveLoss: 0,
    };
    states.set(instanceId, state);
    return state;
  };

  const score = (state: SeriesState, actual: number): void => {
    const due = state.past.find(past => past.step === step - checkedHorizon);
    state.past = state.past.filter(past => past.step > step - checkedHorizon);
    if (!due) return;
    state.modelLoss = lossDecay * state.modelLoss + Math.abs(due.median - actual);
    state.naiveLoss = lossDecay * state.naiveLoss + Math.abs(due.naive - actual);
  };

  const take = (
    core: Core,
    instanceId: string,
    window: Float32Array,
    output: Float32Array,
  ): void => {
    const state = stateOf(instanceId);
    const naive = window[windowSteps - 1] ?? 0;
    const at = (h: number, column: number) => output[h * quantiles.length + column] ?? 0;
    state.past.push({ step, median: at(checkedHorizon - 1, columns[0] ?? 0), naive });
    if (state.modelLoss > state.naiveLoss * 1.05 + 0.05) {
      counters.fallbacks += 1;
      return;
    }
    const worst = (column: number) =>
      Math.max(0, ...Array.from({ length: horizonSteps }, (_, h) => at(h, column)));
    const [q50 = 0, q90 = 0, q95 = 0] = columns.map(worst);
    const demand: Demand = { q50, q90, q95, source: 'model' };
    core.setForecast(instanceId, demand);
    counters.forecasts += 1;
  };

  return {
    run: async (core, now) => {
      step += 1;
      const ids: string[] = [];
      const windows: Float32Array[] = [];
      const alive = new Set(core.series.instances());
      for (const id of alive) {
        const window = core.demandWindow(id, now, windowSteps);
        if (window.length > 0) score(stateOf(id), window.at(-1) ?? 0);
        if (window.length < windowSteps) continue;
        ids.push(id);
        windows.push(Float32Array.from(window));
      }
      for (const id of states.keys()) if (!alive.has(id)) states.delete(id);
      if (ids.length === 0) return;
      try {
        const { quantiles: outputs, states: next } = await forecaster.forecast(
          windows,
          ids.map(id => stateOf(id).tensor),
        );
        for (const [i, id] of ids.entries()) {
          const [window, output, tensor] = [windows[i], outputs[i], next[i]];
          if (!window || !output || !tensor) continue;
          stateOf(id).tensor = tensor;
          take(core, id, window, output);
        }
      } catch (error) {
        counters.failures += 1;
        if (counters.failures % 60 === 1)
          say(
            'warn',
            `engine: the model failed, simple forecasts hold meanwhile: ${describeError(error)}`,
          );
      }
    },
    counters: () => ({ ...counters }),
  };
}
