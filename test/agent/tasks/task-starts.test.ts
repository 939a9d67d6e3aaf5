import test from 'ava';
import { createTaskStarts } from '../../../src/agent/tasks/task-starts.ts';
import { makeTree } from '../../linux/tree.ts';

for (const setBy of [-60, 3600])
  test(`when the clock is set by ${setBy} s, tasks keep their starts, and new ones begin by the clock as it is`, t => {
    const booted = (seconds: number) => ({
      'proc/stat': `cpu0 1 1 1 500 0 0 0 50\nbtime ${seconds}`,
    });
    const tree = makeTree(t, booted(1000));
    const starts = createTaskStarts(tree, () => 1050);
    starts.look();
    t.deepEqual([2000, 6000].map(starts.of), [1050, 1060]);
    tree.write(booted(1001));
    starts.look();
    t.is(starts.of(7000), 1070, 'a second may be rounding');
    t.is(starts.of(2000), 1050);
    tree.write(booted(1000 + setBy));
    starts.look();
    t.deepEqual([2000, 6000, 7000].map(starts.of), [1050, 1060, 1070]);
    t.is(starts.of(20_000), 1200 + setBy);
    tree.write(booted(1000));
    starts.look();
    t.deepEqual([7000, 20_000, 30_000].map(starts.of), [1070, 1200 + setBy, 1300]);
    tree.write({ 'proc/stat': 'cpu0 1 1 1 500 0 0 0 50' });
    starts.look();
    t.is(starts.of(40_000), 1400, 'what /proc/stat does not tell has not changed');
  });
