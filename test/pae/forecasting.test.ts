import test from 'ava';
import { createForecasting } from '../../src/pae/forecasting.ts';
import type { Forecaster } from '../../src/pae/models/forecaster.ts';
import { model, resourcePoints, startStream } from './stream.ts';

const windowSteps = 6;

/** A model that answers `says` for every step and quantile of every series, and the state it was handed plus one. */
function forecasterOf(says: () => number) {
  const asked: number[] = [];
  const states: number[] = [];
  const forecaster = {
    identity: model,
    manifest: { windowSteps, horizonSteps: 2, quantiles: [0.5, 0.9, 0.95] },
    stateWidth: 1,
    forecast: async (windows: readonly Float32Array[], before: readonly Float32Array[]) => {
      asked.push(windows.length);
      states.push(before[0]?.[0] ?? -1);
      return {
        quantiles: windows.map(() => new Float32Array(6).fill(says())),
        states: before.map(state => state.map(value => value + says())),
      };
    },
    counters: () => ({ modelRestarts: 0 }),
    stop: async () => undefined,
  } as unknown as Forecaster;
  return { forecaster, asked, states };
}

const loaded = { id: '/a', load: { used: 0.5 } };

test('a series is forecast again when something has come of it', async t => {
  const { core, run, now } = startStream([loaded], []);
  const { forecaster, asked } = forecasterOf(() => 0.7);
  const forecasting = createForecasting(forecaster, () => undefined);
  run(10);
  await forecasting.run(core, now() - 1);
  await forecasting.run(core, now());
  t.deepEqual(asked, [1], 'nothing has come since');
  run(1);
  await forecasting.run(core, now() - 1);
  t.deepEqual(asked, [1, 1]);
  core.judge(now());
  t.is(core.verdicts()[0]?.demandCores.toFixed(3), '0.700');
  t.is(forecasting.counters().forecasts, 2);
});

test('a forecast that is no number is counted and not taken, and its state is not handed in again', async t => {
  const { core, run, now } = startStream([loaded], []);
  const { forecaster, states } = forecasterOf(() => Number.NaN);
  const forecasting = createForecasting(forecaster, () => undefined);
  run(10);
  for (let i = 0; i < 2; i += 1) {
    run(1);
    await forecasting.run(core, now() - 1);
  }
  core.judge(now());
  t.is(core.verdicts()[0]?.demandCores.toFixed(3), '0.500', 'what was seen last holds');
  t.is(forecasting.counters().notFinite, 2);
  t.deepEqual(states, [0, 0]);
});

test('a series that is told every 5 s is forecast, each time from the state of the last', async t => {
  const { core, intake } = startStream([loaded], []);
  const { forecaster, asked, states } = forecasterOf(() => 0.7);
  const forecasting = createForecasting(forecaster, () => undefined);
  for (let now = 1000; now < 1060; now += 1) {
    if (now % 5 === 0)
      intake.metrics([resourcePoints('/a', now, { used: now / 2, wait: 0, throttled: 0 })]);
    // As the engine asks, a second back.
    await forecasting.run(core, now - 1);
  }
  t.true(asked.length >= 9, `${asked.length} times`);
  t.deepEqual(
    states,
    states.toSorted((a, b) => a - b),
  );
  t.is(new Set(states).size, states.length);
});
