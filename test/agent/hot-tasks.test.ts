import test from 'ava';
import { createHotTasks } from '../../src/agent/hot-tasks.ts';

function task(tid: number, runNs: number, startTicks = 1, name = 't') {
  return {
    cgroupId: tid % 2,
    tid,
    tgid: tid,
    startTicks,
    name,
    runNs,
    waitNs: 0,
    throttledNs: 0,
    migrations: 0,
  };
}
const noVm = () => false;

test('the tasks that grew most are hot, not those that are largest', t => {
  const hot = createHotTasks(1, 100, 0);
  hot.take([task(1, 1000), task(2, 10)], noVm);
  t.deepEqual(
    hot.take([task(1, 1001), task(2, 20)], noVm).map(each => each.tid),
    [2],
  );
  t.deepEqual(hot.of(new Set([0])), [2]);
  t.deepEqual(hot.of(new Set([1])), []);
});

test('a series begins with its task, or with the probe, also when it was not hot meanwhile', t => {
  const hot = createHotTasks(1, 1000, 900);
  const startOf = (...tasks: ReturnType<typeof task>[]) => hot.take(tasks, noVm)[0]?.start;
  t.is(startOf(task(1, 10, 500)), 1000);
  t.is(startOf(task(2, 10, 20_000)), 1100);
  t.is(startOf(task(1, 20, 500)), 1000);
  t.is(startOf(task(1, 5, 30_000)), 1200, 'a reused tid is another task');
});

test('the vCPUs of a VM are told past the K hottest; a thread that only bears the name is not', t => {
  const hot = createHotTasks(0, 0, 0);
  const changed = [task(2, 10, 1, 'CPU 3/KVM'), task(3, 10, 1, 'CPU 0/KVM'), task(4, 10)];
  t.deepEqual(
    hot.take(changed, cgroupId => cgroupId === 0).map(({ tid, vcpu }) => [tid, vcpu]),
    [[2, 3]],
  );
});
