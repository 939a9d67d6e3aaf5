import test from 'ava';
import { createPauses } from '../../../src/agent/memory/pauses.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

test('a pause ends in its time; those that have not ended are stopped, and none of the others is kept', async t => {
  const clock = steppedClock();
  let stopped = 0;
  const pauses = createPauses({
    after: (seconds, run) => {
      const cancel = clock.after(seconds, run);
      return () => {
        stopped += 1;
        cancel();
      };
    },
  });
  const ended: number[] = [];
  for (const seconds of [1, 2, 10]) void pauses.pause(seconds).then(() => ended.push(seconds));
  clock.step(2);
  await new Promise(setImmediate);
  t.deepEqual(ended, [1, 2]);
  pauses.stop();
  t.is(stopped, 1);
  clock.step(10);
  await new Promise(setImmediate);
  t.deepEqual(ended, [1, 2]);
});
