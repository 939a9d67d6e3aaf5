import test from 'ava';
import { addChange, emptyTotals } from '../../../src/agent/instances/add-change.ts';
import type { SchedTotals } from '../../../src/agent/probes/sched-layout.ts';

const totals = (runNs: number, waitNs: number, throttledNs: number): SchedTotals => ({
  ...{ runNs, waitNs, throttledNs },
});
const last = totals(10, 20, 30);

const nexts: Readonly<Record<string, readonly [next: SchedTotals, change: SchedTotals]>> = {
  'what has grown': [totals(11, 22, 33), totals(1, 2, 3)],
  'what rested': [last, totals(0, 0, 0)],
  'a key made anew, by what ran': [totals(9, 25, 31), totals(9, 25, 31)],
  'a key made anew, by what waited': [totals(15, 19, 31), totals(15, 19, 31)],
  'throttled time that alone was read too early': [totals(12, 20, 29), totals(2, 0, 0)],
};
for (const [what, [next, change]] of Object.entries(nexts))
  test(`a sum takes what came, and never falls: ${what}`, t => {
    const sum = totals(100, 200, 300);
    t.deepEqual(addChange(sum, last, next), change);
    const { runNs, waitNs, throttledNs } = change;
    t.deepEqual(sum, totals(100 + runNs, 200 + waitNs, 300 + throttledNs));
    t.deepEqual(emptyTotals(), totals(0, 0, 0));
  });
