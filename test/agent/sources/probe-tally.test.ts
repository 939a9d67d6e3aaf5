import test from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { createProbeTally } from '../../../src/agent/sources/probe-tally.ts';

test('a cgroup id that is used again counts from zero', t => {
  const inMap = new Map([[7, 10]]);
  const tally = createProbeTally<number>({
    width: 1,
    countersOf: count => Float64Array.of(count),
    eventsOf: count => count,
    drop: ids => {
      const dropped = new Map([...inMap].filter(([id]) => ids.includes(id)));
      for (const id of dropped.keys()) inMap.delete(id);
      return dropped;
    },
  });
  const [first, second] = [{}, {}] as [LivingInstance, LivingInstance];
  tally.take(inMap, new Map([[7, first]]));
  inMap.set(7, 12);
  tally.forget(new Map([[7, first]]));
  t.deepEqual([inMap.size, ...tally.of(first)], [0, 12]);
  inMap.set(7, 15);
  tally.take(inMap, new Map([[7, second]]));
  t.deepEqual([...tally.of(second)], [15]);
});
