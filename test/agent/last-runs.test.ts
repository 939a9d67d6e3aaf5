import test from 'ava';
import { createLastRuns } from '../../src/agent/last-runs.ts';

test('a task has run since its totals changed last, and may have where nothing was read since', t => {
  const runs = createLastRuns(120);
  t.true(runs.ranSince(1, 0), 'nothing was read at all');
  runs.take([{ tid: 1 }], 10);
  runs.take([{ tid: 2 }], 20);
  t.true(runs.ranSince(1, 10));
  t.false(runs.ranSince(1, 11));
  t.true(runs.ranSince(2, 11));
  t.false(runs.ranSince(3, 11));
  t.true(runs.ranSince(3, 20), 'what it did since then was not read yet');
  t.true(runs.ranSince(3, 25));
});

test('of what is too long ago it is not known whether a task ran', t => {
  const runs = createLastRuns(120);
  runs.take([{ tid: 1 }], 10);
  runs.take([], 200);
  t.true(runs.ranSince(1, 9));
  t.true(runs.ranSince(1, 79));
  t.false(runs.ranSince(1, 81));
});
