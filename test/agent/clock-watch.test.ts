import test from 'ava';
import { createClockWatch } from '../../src/agent/clock-watch.ts';
import { createSteadyTime } from '../../src/cli/steady-time.ts';
import { steppedClock } from '../support/stepped-clock.ts';

test('a clock that is set back so far that time goes back is said, once', t => {
  const machine = steppedClock();
  const clock = { ...machine, unixSeconds: createSteadyTime(machine) };
  const said: string[] = [];
  const watch = createClockWatch(clock, (level, text) => void said.push(`${level}: ${text}`));
  const pass = (setBy: number) => {
    machine.setWall(setBy);
    machine.step(1);
    watch();
  };
  for (const setBy of [0, 3600, -8, 0]) pass(setBy);
  watch();
  t.deepEqual(said, []);
  for (const setBy of [-3600, 0, 0]) pass(setBy);
  t.is(said.length, 1);
  t.regex(said[0] ?? '', /^warn: agent: the clock was set back by 36\d\d s: .* started again$/);
});
