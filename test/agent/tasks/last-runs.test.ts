import test from 'ava';
import { createLastRuns } from '../../../src/agent/tasks/last-runs.ts';

const task = (tid: number, cpu = 0, startTicks = 1, nameHash = 1) => ({
  tid,
  cpu,
  startTicks,
  nameHash,
});
const cpuOf = (since: ReturnType<ReturnType<typeof createLastRuns>['since']>) =>
  since !== null && since !== 'rested' ? since.cpu : since;

test('a task rested, or ran as who it was; and nothing is known where nothing was read since', t => {
  const runs = createLastRuns(120);
  t.is(runs.since(1, 0), null, 'nothing was read at all');
  runs.take([task(1)], 10);
  runs.take([task(2, 3)], 20);
  t.is(runs.since(1, 10), null, 'it may have begun then');
  t.is(runs.since(1, 11), 'rested');
  t.is(runs.since(2, 11), null, 'it may have begun after that');
  t.is(runs.since(3, 11), 'rested');
  t.is(runs.since(3, 20), null, 'what it did since then was not read yet');
  t.is(runs.since(3, 25), null);
  runs.take([task(2, 1)], 30);
  t.is(cpuOf(runs.since(2, 21)), 1);
  t.is(runs.since(2, 20), null);
});

test('a tid that is another task’s, and a name that is another one, are not what they were', t => {
  const runs = createLastRuns(120);
  runs.take([task(1), task(2)], 10);
  runs.take([task(1, 0, 2), task(2, 0, 1, 2)], 20);
  t.is(runs.since(1, 15), null);
  t.is(runs.since(2, 15), null);
  runs.take([task(1, 0, 2), task(2, 0, 1, 2)], 30);
  t.is(runs.since(1, 15), null, 'still another than at that time');
  t.is(cpuOf(runs.since(1, 25)), 0);
  t.is(cpuOf(runs.since(2, 25)), 0);
});

test('of what is too long ago nothing is known', t => {
  const runs = createLastRuns(120);
  runs.take([task(1)], 10);
  runs.take([], 200);
  t.is(runs.since(1, 9), null);
  t.is(runs.since(1, 79), null);
  t.is(runs.since(1, 81), 'rested');
  runs.take([task(1)], 210);
  t.is(runs.since(1, 205), null, 'it was forgotten meanwhile');
});
