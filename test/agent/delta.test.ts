import test from 'ava';
import type { TaskTotals } from '../../src/agent/probes/sched-layout.ts';
import { stageRounds } from './support/rounds-stage.ts';

const cores = (agent: ReturnType<typeof stageRounds>) =>
  agent.valuesOf('container.cpu.time', '/svc').map(({ value }) => Number(value));

for (const reads of [0, 1, 2, 3, 4])
  test(`delta: a cgroup that is made anew counts from nothing, ${reads} readings after an export`, async t => {
    const agent = stageRounds(t, { temporality: 'delta' });
    agent.add('/svc', { used: 0.5, wait: 0 });
    await agent.read(20 + reads);
    agent.remove('/svc');
    agent.tree.write({ 'cgroup/keeps-the-inode/': '' });
    await agent.read(1);
    agent.add('/svc', { used: 0.5, wait: 0 });
    await agent.read(30);
    t.deepEqual(
      cores(agent).filter(value => value < 0),
      [],
    );
    const used = cores(agent).reduce((sum, value) => sum + value, 0);
    const last = agent.valuesOf('container.cpu.time', '/svc').at(-1)?.at ?? 0;
    // Each life is loaded with its first reading; between the two one reading had no load.
    t.is(used.toFixed(3), (0.5 * last).toFixed(3));
  });

const idleTask: Omit<TaskTotals, 'cgroupId' | 'runNs'> = {
  ...{ tid: 5, tgid: 5, startTicks: 1000, name: 'work', waitNs: 0, throttledNs: 0, blockedNs: [] },
  ...{ voluntarySwitches: 0, involuntarySwitches: 0, migrations: 0, nodeMigrations: 0 },
};

test('delta: a task that /proc hides is told what is new of it, also after minutes', async t => {
  const config = {
    readIntervalSeconds: 2,
    headlineIntervalSeconds: 10,
    detailIntervalSeconds: 30,
    fastInstances: 0,
  };
  const agent = stageRounds(t, { temporality: 'delta', config });
  const cgroupId = agent.add('/svc', { used: 0.5, wait: 0 });
  for (let i = 1; i <= 100; i += 1) {
    agent.setTasks([{ ...idleTask, cgroupId, runNs: i * 1e9 }]);
    await agent.read(1);
  }
  const told = agent.valuesOf('sculptor.task.cpu.time', '/svc').map(({ value }) => Number(value));
  t.is(told.length, 6);
  t.is(
    told.reduce((sum, value) => sum + value, 0),
    91,
  );
});
