import test from 'ava';
import { memorySource } from '../../../src/agent/memory/memory-source.ts';
import { taskFiles } from '../../linux/tree.ts';
import { stageRounds } from '../support/rounds-stage.ts';

type Stage = ReturnType<typeof stageRounds>;

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

/** The files of a cgroup with a QEMU that has so much memory. */
const qemuIn = (path: string, tid: number, bytes: number) => ({
  [`cgroup${path}/cgroup.procs`]: `${tid}`,
  [`cgroup${path}/cgroup.threads`]: `${tid}`,
  [`cgroup${path}/memory.current`]: `${bytes}`,
  [`cgroup${path}/memory.stat`]: `anon ${bytes}\nfile 0\npgfault ${bytes}\npgmajfault 0`,
  ...taskFiles(tid, { cmdline: ['qemu-system-x86_64', '-uuid', uuid], name: 'qemu-system-x86' }),
});

/** What is made next has another inode than what was removed last, as cgroups have. */
const keepInodes = ({ tree }: Stage, name: string) =>
  tree.write(Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8].map(i => [`cgroup/${name}${i}/`, ''])));

for (const [what, second] of [
  ['in another scope, as libvirt starts it', '/machine.slice/machine-qemu-2-web.scope'],
  ['in its own', '/machine.slice/machine-qemu-1-web.scope'],
] as const)
  for (const reads of [2, 20])
    test(`a QEMU that is started again after ${reads * 0.2} s ${what}, begins a life of its VM that is told where it is`, async t => {
      const first = '/machine.slice/machine-qemu-1-web.scope';
      const agent = stageRounds(t, {
        files: { 'cgroup/cgroup.controllers': 'cpu cpuset memory' },
        kinds: [memorySource],
      });
      const id = agent.add(first, { used: 0.5, wait: 0 }, qemuIn(first, 5, 1000));
      await agent.read(60);
      agent.remove(first);
      agent.tree.remove('proc/5');
      keepInodes(agent, 'keeps');
      await agent.read(reads);
      t.not(agent.add(second, { used: 0.25, wait: 0 }, qemuIn(second, 7, 5000)), id);
      await agent.read(120);
      const last = agent.placements(uuid).at(-1);
      t.deepEqual([last?.alive, last?.cgroup.path, last?.cgroup.weight], [true, second, 100]);
      t.deepEqual(
        agent
          .placements(uuid)
          .filter(({ alive }) => !alive)
          .map(({ cgroup }) => cgroup.path),
        [first],
      );
      t.is(agent.valuesOf('container.memory.usage', uuid).at(-1)?.value, 5000);
      const times = agent.valuesOf('container.cpu.time', uuid);
      const lives = [...Map.groupBy(times, ({ start }) => start).values()];
      t.deepEqual(
        lives.map(life => Number(life.at(-1)?.value).toFixed(2)),
        ['6.00', (0.05 * Math.round(((times.at(-1)?.at ?? 0) - 11.8) / 0.2 - reads)).toFixed(2)],
      );
      t.is(agent.rounds.status().instances, 1);
    });
