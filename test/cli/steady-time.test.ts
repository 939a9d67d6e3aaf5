import test from 'ava';
import fc from 'fast-check';
import { createSteadyTime, mostAheadSeconds } from '../../src/cli/steady-time.ts';
import { steppedClock } from '../support/stepped-clock.ts';

function start() {
  const clock = steppedClock(1000);
  const time = createSteadyTime(clock);
  time();
  return { ...clock, time };
}

test('it is the machine’s own time as long as that is not set', t => {
  const { step, time } = start();
  step(0.2);
  t.is(time(), 1000.2);
  step(3600);
  t.is(time(), 4600.2);
});

test('a clock that is set ahead is followed at once: set by hand, or after the machine was suspended', t => {
  const { step, setWall, time } = start();
  setWall(3600);
  t.is(time(), 4600);
  step(1);
  t.is(time(), 4601);
});

test('a clock that is set back is waited for, at nine tenths of its pace', t => {
  const { step, setWall, time } = start();
  step(10);
  t.is(time(), 1010);
  setWall(-5);
  t.is(time(), 1010);
  step(10);
  t.is(time(), 1019, 'the machine says 1015');
  step(41);
  t.is(time(), 1056, 'it has caught up');
  step(1);
  t.is(time(), 1057);
});

test('a clock that is set back by more was wrong before, and is followed', t => {
  const { step, setWall, time } = start();
  setWall(-mostAheadSeconds);
  t.is(time(), 1000);
  setWall(-2);
  t.is(time(), 1000 - mostAheadSeconds - 2);
  step(1);
  t.is(time(), 1001 - mostAheadSeconds - 2);
});

test('whatever small steps a clock makes, time never goes back, nor stands where time passes', t => {
  const event = fc.record({
    wall: fc.double({ min: -0.15, max: 60, noNaN: true }),
    passes: fc.double({ min: 0.01, max: 100, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 50 }), events => {
      const { step, setWall, time } = start();
      let last = time();
      for (const { wall, passes } of events) {
        setWall(wall);
        step(passes);
        const now = time();
        if (now < last + 0.89 * passes) return false;
        last = now;
      }
      return true;
    }),
  );
  t.pass();
});
