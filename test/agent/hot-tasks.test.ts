import test from 'ava';
import { createHotTasks } from '../../src/agent/hot-tasks.ts';

function task(tid: number, runNs: number, startTicks = 1) {
  return {
    cgroupId: tid % 2,
    tid,
    tgid: tid,
    startTicks,
    name: 't',
    runNs,
    waitNs: 0,
    throttledNs: 0,
    migrations: 0,
  };
}

test('the tasks that grew most are hot, not those that are largest', t => {
  const hot = createHotTasks(1);
  hot.take([task(1, 1000), task(2, 10)], 1);
  t.deepEqual(
    hot.take([task(1, 1001), task(2, 20)], 2).map(each => each.tid),
    [2],
  );
  t.deepEqual(hot.of(0), [2]);
});

test('a series keeps its start while its task stays busy, and a reused tid begins anew', t => {
  const hot = createHotTasks(10);
  hot.take([task(1, 10)], 1);
  t.is(hot.take([task(1, 20)], 2)[0]?.start, 1);
  t.is(hot.take([task(1, 5, 99)], 3)[0]?.start, 3);
});
