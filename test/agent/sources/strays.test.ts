import test from 'ava';
import { createStrays } from '../../../src/agent/sources/strays.ts';

test('a cgroup is dropped when three readings, one after another, have met it; then it is met anew', t => {
  const strays = createStrays();
  const dropped = [[1, 2, 2], [1, 3], [1, 2], [2], [1, 2], [1], [1]].map(ids => strays.take(ids));
  t.deepEqual(dropped, [[], [], [1], [], [2], [], [1]]);
});
