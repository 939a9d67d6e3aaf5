import test from 'ava';
import fc from 'fast-check';
import { challenge, pinballLoss } from '../../../src/pae/models/challengers.ts';

test('every simple forecast has its quantiles in order, none below zero', t => {
  const cores = fc.double({ min: 0, max: 64, noNaN: true });
  fc.assert(
    fc.property(fc.array(cores, { minLength: 1, maxLength: 64 }), window => {
      for (const [q50, q90, q95] of Object.values(challenge(window)))
        if (!(q50 >= 0 && q50 <= q90 && q90 <= q95)) return false;
      return true;
    }),
  );
  t.pass();
});

test('on a constant series every simple forecast is that constant', t => {
  for (const forecast of Object.values(challenge(new Float32Array(48).fill(0.5))))
    t.deepEqual(forecast, [0.5, 0.5, 0.5]);
});

test('the pinball loss of an upper quantile weighs a value above it more than one below it', t => {
  t.true(pinballLoss([1, 1, 1], 2) > pinballLoss([1, 1, 1], 0));
  t.is(pinballLoss([1, 1, 1], 1), 0);
});
