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

test('a series that is told every 5 s is forecast', async t => {
  const { core, intake } = startStream([loaded], []);
  const { forecaster, asked } = forecasterOf(() => 0.7);
  const forecasting = createForecasting(forecaster, () => undefined);
  for (let now = 1000; now < 1060; now += 1) {
    if (now % 5 === 0)
      intake.metrics([resourcePoints('/a', now, { used: now / 2, wait: 0, throttled: 0 })]);
    // As the engine asks, a second back.
    await forecasting.run(core, now - 1);
  }
  t.true(asked.length >= 9, `${asked.length} times`);
});
