import test from 'ava';
import { createReadingClock } from '../../src/agent/reading-clock.ts';
import { steppedClock } from '../support/stepped-clock.ts';

test('within a reading it is the time at which it began, and afterwards the clock goes on', t => {
  const clock = steppedClock(1000);
  const reading = createReadingClock(clock);
  clock.step(1);
  t.throws(() =>
    reading.during(() => {
      clock.step(0.5);
      t.is(reading.unixSeconds(), 1001);
      t.is(reading.monotonicSeconds(), 1.5);
      throw new Error('a reading that fails');
    }),
  );
  t.is(reading.unixSeconds(), 1001.5);
});
