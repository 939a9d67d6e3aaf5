import test from 'ava';
import { createTaskKeeper } from '../../../src/agent/tasks/task-keeper.ts';
import { makeTree, taskFiles } from '../../linux/tree.ts';

test('within an interval it is asked once which tasks are alive, and one that has the tid of another is not it', t => {
  const tree = makeTree(t, taskFiles(7, { startTicks: 500 }));
  const asked: { since: number; alive: readonly string[] }[] = [];
  const tasks = ['7@500', '7@100', '8@500'];
  const keep = createTaskKeeper(
    tree,
    { keepTasks: (isAlive, since) => void asked.push({ since, alive: tasks.filter(isAlive) }) },
    10,
  );
  for (const now of [10, 69, 70, 71, 129, 130]) keep(now, 60, now - 5);
  t.deepEqual(asked, [
    { since: 65, alive: ['7@500'] },
    { since: 125, alive: ['7@500'] },
  ]);
});
