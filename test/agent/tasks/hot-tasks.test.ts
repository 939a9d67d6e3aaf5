import test from 'ava';
import { createHotTasks } from '../../../src/agent/tasks/hot-tasks.ts';
import { changedTask, idleTask } from '../support/changed-task.ts';

function task(tid: number, runNs: number, startTicks = 1, name = 't', grownNs = runNs) {
  const totals = { ...idleTask, cgroupId: tid % 2, tid, tgid: tid, startTicks, name, runNs };
  return changedTask(totals, 0, grownNs);
}
const noVcpus: [] = [];
const startsOf = (began: number, booted: number) => ({
  look: () => undefined,
  of: (startTicks: number) => Math.max(began, booted + startTicks / 100),
});

test('the tasks that grew most are hot, not those that are largest', t => {
  const hot = createHotTasks({ hotTasks: 1 }, startsOf(100, 0));
  t.deepEqual(
    hot.take([task(1, 1001, 1, 't', 1), task(2, 20, 1, 't', 10)], noVcpus).map(each => each.tid),
    [2],
  );
  t.deepEqual(hot.of(new Set([0])), [2]);
  t.deepEqual(hot.of(new Set([1])), []);
});

test('a series begins with its task, or with the probe, also when it was not hot meanwhile', t => {
  const hot = createHotTasks({ hotTasks: 1 }, startsOf(1000, 900));
  const startOf = (...tasks: ReturnType<typeof task>[]) => hot.take(tasks, noVcpus)[0]?.start;
  t.is(startOf(task(1, 10, 500)), 1000);
  t.is(startOf(task(2, 10, 20_000)), 1100);
  t.is(startOf(task(1, 20, 500)), 1000);
  t.is(startOf(task(1, 5, 30_000)), 1200, 'a reused tid is another task');
});

test('it is looked when the host was booted before tasks are said to have begun', t => {
  let booted = 0;
  const starts = {
    look: () => {
      booted += 900;
    },
    of: (startTicks: number) => booted + startTicks / 100,
  };
  const hot = createHotTasks({ hotTasks: 1 }, starts);
  t.is(hot.take([task(1, 10, 500)], noVcpus)[0]?.start, 905);
});

const vcpu = (tid: number, index: number, startTicks = 1) => ({
  cgroupId: 0,
  tid,
  tgid: 2,
  startTicks,
  name: `CPU ${index}/KVM`,
  index,
});

test('the vCPUs of a VM are told past the K hottest, also those that did nothing', t => {
  const hot = createHotTasks({ hotTasks: 1 }, startsOf(0, 0));
  const vcpus = [vcpu(2, 0), vcpu(6, 1)];
  const told = (...changed: ReturnType<typeof task>[]) =>
    hot.take(changed, vcpus).map(({ tid, vcpu: index, runNs }) => [tid, index, runNs]);
  t.deepEqual(told(task(2, 10), task(3, 20, 1, 'CPU 0/KVM'), task(4, 10)), [
    [3, null, 20],
    [2, 0, 10],
  ]);
  t.deepEqual(told(task(6, 5)), [
    [2, 0, 10],
    [6, 1, 5],
  ]);
  t.deepEqual(told(), [
    [2, 0, 10],
    [6, 1, 5],
  ]);
  t.deepEqual(hot.of(new Set([0])), [2, 6]);
});

test('a vCPU thread whose tid was reused begins anew', t => {
  const hot = createHotTasks({ hotTasks: 0 }, startsOf(0, 0));
  hot.take([task(2, 10)], [vcpu(2, 0)]);
  t.deepEqual(hot.take([], [vcpu(2, 0, 500)]), []);
  t.is(hot.take([task(2, 3, 500)], [vcpu(2, 0, 500)])[0]?.runNs, 3);
});

test('a vCPU that is known again while it rests is told when it does something: its series never falls', t => {
  const hot = createHotTasks({ hotTasks: 1 }, startsOf(0, 0));
  const told = (changed: ReturnType<typeof task>[], vcpus: ReturnType<typeof vcpu>[]) =>
    hot.take(changed, vcpus).map(({ runNs }) => runNs);
  t.deepEqual(told([task(2, 100)], []), [100], 'as a hot task');
  t.deepEqual(told([], [vcpu(2, 0)]), []);
  t.deepEqual(told([task(2, 110)], [vcpu(2, 0)]), [110]);
  t.deepEqual(told([], []), []);
  t.deepEqual(told([], [vcpu(2, 0)]), []);
  t.deepEqual(told([task(2, 120)], [vcpu(2, 0)]), [120]);
});
