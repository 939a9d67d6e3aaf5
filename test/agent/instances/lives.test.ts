import test from 'ava';
import { memorySource } from '../../../src/agent/memory/memory-source.ts';
import type { SourceKind } from '../../../src/agent/sources/source.ts';
import { createTally } from '../../../src/agent/sources/tally.ts';
import { taskFiles } from '../../linux/tree.ts';
import { stageRounds } from '../support/rounds-stage.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

/** The files of a cgroup with a QEMU that has so much memory. */
const qemuIn = (path: string, tid: number, bytes: number) => ({
  [`cgroup${path}/cgroup.procs`]: `${tid}`,
  [`cgroup${path}/cgroup.threads`]: `${tid}`,
  [`cgroup${path}/memory.current`]: `${bytes}`,
  [`cgroup${path}/memory.stat`]: `anon ${bytes}\nfile 0\npgfault ${bytes}\npgmajfault 0`,
  ...taskFiles(tid, { cmdline: ['qemu-system-x86_64', '-uuid', uuid], name: 'qemu-system-x86' }),
});

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

/** Tells what `kernel` has counted for each cgroup. */
function countsOf(kernel: ReadonlyMap<number, number>): SourceKind {
  const tally = createTally(1);
  const counted = (id: number) => Float64Array.of(kernel.get(id) ?? 0);
  return {
    name: 'counts',
    tells: 'counts',
    start: () => ({
      name: 'counts',
      read: living => {
        for (const one of living)
          for (const id of one.members.keys()) tally.add(one, id, counted(id));
      },
      samples: living => [
        {
          metric: 'sculptor.task.migrations',
          start: living.start,
          value: tally.of(living)[0] ?? 0,
        },
      ],
      host: () => [],
      lost: () => ({}),
      forget: gone => {
        for (const [id, living] of gone) if (living) tally.add(living, id, counted(id));
        tally.forget(gone.keys());
      },
      stop: () => undefined,
    }),
  };
}

for (const temporality of ['cumulative', 'delta'])
  test(`${temporality}: of services that are restarted nothing that the kernel counted is left out, and one life is told after the other`, async t => {
    const kernel = new Map<number, number>();
    const agent = stageRounds(t, {
      config: { profile: 'full', detailIntervalSeconds: 2 },
      kinds: [countsOf(kernel)],
      temporality,
    });
    const wanted: [string, number, number][] = [];
    // Restarted at other times of an interval each, and at once or after a while.
    for (const [i, gap] of [0, 1, 2, 5, 8, 0, 0, 12].entries()) {
      const id = agent.add('/svc', { used: 0.5, wait: 0 });
      const reads = i === 6 ? 1 : 13 + i;
      for (let n = 1; n <= reads; n += 1) {
        kernel.set(id, n * 10);
        await agent.read(1);
      }
      wanted.push([`life ${i}`, reads * 10, reads * 0.1]);
      agent.remove('/svc');
      await agent.read(gap);
    }
    await agent.read(40);
    const told = ['sculptor.task.migrations', 'container.cpu.time'].map(metric => {
      const points = agent.valuesOf(metric, '/svc');
      for (const [at, { start, time }] of points.entries()) {
        t.true(start <= time);
        t.true(at === 0 || time > (points[at - 1]?.time ?? 0), `${metric}: a time of its own`);
        t.true(at === 0 || start >= (points[at - 1]?.start ?? 0), `${metric}: in turn`);
      }
      return points;
    });
    const [counts = [], seconds = []] = told.map(points =>
      temporality === 'delta'
        ? [points.reduce((sum, { value }) => sum + Number(value), 0)]
        : [...Map.groupBy(points, ({ start }) => start).values()].map(life =>
            Number(life.at(-1)?.value),
          ),
    );
    const sum = (of: readonly number[]) => of.reduce((all, one) => all + one, 0);
    const each = (of: readonly number[]) => (temporality === 'delta' ? [sum(of)] : of);
    t.deepEqual(counts, each(wanted.map(([, count]) => count)));
    t.deepEqual(
      seconds.map(value => value.toFixed(2)),
      each(wanted.map(([, , used]) => used)).map(value => value.toFixed(2)),
    );
    t.true(told.flat().every(({ value }) => Number(value) >= 0));
    const alive = agent.placements('/svc').map(placement => placement.alive);
    t.deepEqual(
      alive,
      wanted.flatMap(() => [true, false]),
    );
  });
