import test from 'ava';
import { taskFiles } from '../../linux/tree.ts';
import { stageRounds } from '../support/rounds-stage.ts';

for (const placementIntervalSeconds of [1, 5, 60])
  test(`what did not change is told again within ${placementIntervalSeconds} s, and not much sooner`, async t => {
    const agent = stageRounds(t, { config: { placementIntervalSeconds } });
    const at: number[] = [];
    await agent.read(27);
    agent.listen(({ eventName }) => {
      if (eventName === 'sculptor.placement') at.push(agent.clock.monotonicSeconds());
    });
    agent.add('/a', { used: 0.001, wait: 0 });
    await agent.read(5 * 300);
    const gaps = at.slice(1).map((time, nth) => time - (at[nth] ?? 0));
    t.true(gaps.length > 3);
    // Batches are as far apart as 30 s, or half the interval; two readings beyond.
    for (const gap of gaps) t.true(gap <= placementIntervalSeconds * 1.06 + 0.4, `${gap}`);
    // The first may come with a batch that was about to begin.
    for (const gap of gaps.slice(1)) t.true(gap >= placementIntervalSeconds / 2, `${gap}`);
  });

test('memory in huge pages of a size that the host is given while the agent runs is told as well', async t => {
  const pages = 'sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages';
  const agent = stageRounds(t, {
    config: { placementIntervalSeconds: 1 },
    files: { 'cgroup/cgroup.controllers': 'cpu cpuset memory hugetlb', [pages]: '0' },
  });
  agent.add('/a', undefined, {
    'cgroup/a/memory.numa_stat': 'anon N0=4096',
    'cgroup/a/hugetlb.2MB.numa_stat': 'total=2097152 N0=2097152',
  });
  const told = () => agent.placements('/a').at(-1)?.bytesByNode;
  await agent.read(10);
  t.deepEqual(told(), { 0: 4096 });
  agent.tree.write({ [pages]: '1' });
  await agent.read(10);
  t.deepEqual(told(), { 0: 4096 + 2_097_152 });
});

test('where nobody knows who ran, tasks are looked at whenever they are told again', async t => {
  const agent = stageRounds(t, {
    config: { placementIntervalSeconds: 1 },
    withoutScheduler: true,
    files: taskFiles(101, { cpu: 0 }),
  });
  agent.add('/a', { used: 0, wait: 0 }, { 'cgroup/a/cgroup.threads': '101' });
  const cpu = () =>
    agent
      .placements('/a')
      .at(-1)
      ?.tasks.map(task => task.cpu);
  await agent.read(10);
  t.deepEqual(cpu(), [0]);
  agent.tree.write(taskFiles(101, { cpu: 1 }));
  await agent.read(10);
  t.deepEqual(cpu(), [1]);
});
