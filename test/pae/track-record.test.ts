import test from 'ava';
import { challenge } from '../../src/pae/models/challengers.ts';
import { createTrackRecord } from '../../src/pae/track-record.ts';

/** Steps of a series of 1 core that alternates by ±0.2; `model` says the same at each. */
function recordOf(model: readonly number[], steps: number) {
  const record = createTrackRecord(3);
  const window: number[] = [];
  for (let i = 0; i < steps; i += 1) {
    window.push(1 + (i % 2 === 0 ? 0.2 : -0.2));
    record.settle(window.at(-1) ?? 0);
    record.add({ model, ...challenge(window) });
  }
  return record;
}

test('a model that is right forecasts on', t => {
  t.is(recordOf([1, 1.2, 1.2], 40).best(), 'model');
});

test('a model that has been worse than the last value gives way to the best simple forecast', t => {
  t.is(recordOf([5, 6, 7], 40).best(), 'windowQuantiles');
});

test('a few bad forecasts do not tell yet', t => {
  t.is(recordOf([5, 6, 7], 6).best(), 'model');
});
