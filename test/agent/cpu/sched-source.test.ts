import test from 'ava';
import { createSchedSource } from '../../../src/agent/cpu/sched-source.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { counterWords, layout } from '../../../src/agent/probes/sched-layout.ts';
import type { Counters, PairWaits } from '../../../src/agent/sources/counters.ts';
import type { HotTask } from '../../../src/agent/tasks/hot-tasks.ts';
import type { Sample } from '../../../src/otlp/sample.ts';

type Field = 'runNs' | 'waitNs' | 'userNs' | 'kernelNs' | 'wakeups' | 'migrations';
type Counted = Partial<Record<Field | 'nodeMigrations' | 'involuntarySwitches', number>>;

const s = 1e9;
const countersOf = (counted: Counted): Counters => {
  const counters = new Float64Array(counterWords);
  for (const [field, value] of Object.entries(counted))
    counters[layout.totals[field as Field] / 8] = value;
  return counters;
};
const life = (name: string, ...ids: number[]) =>
  ({
    instance: { id: name },
    start: 5,
    members: new Map(ids.map(id => [id, `${name}/${id}`])),
  }) as unknown as LivingInstance;

/** The kernel's side; `pairs` are those since the last reading: who waited, for whom, ns. */
function stage() {
  const kernel = {
    counted: new Map<number, Counted>(),
    pairs: [] as [number, number, number][],
    hot: [] as HotTask[],
    now: 100,
  };
  const takePairs = (): PairWaits => {
    const pairs = kernel.pairs.splice(0);
    return {
      forEach: take => {
        for (const pair of pairs) take(...pair);
      },
    };
  };
  const detailsOf = (ids: readonly number[]) =>
    new Map(
      ids.flatMap(id => {
        const counted = kernel.counted.get(id);
        return counted ? [[id, countersOf(counted)] as const] : [];
      }),
    );
  const source = createSchedSource({
    probe: {
      readDetails: () => ({
        instances: detailsOf([...kernel.counted.keys()]),
        pairs: takePairs(),
        tasks: [],
      }),
      detailsOf,
      takePairs,
      readWaitByCpu: cpus => cpus.map(cpu => cpu * s),
    },
    now: () => kernel.now,
    cpus: () => [0, 2],
    hottest: () => kernel.hot,
  });
  /** Values of one metric, by its attributes. */
  const told = (samples: readonly Omit<Sample, 'start'>[], metric: string) =>
    Object.fromEntries(
      samples
        .filter(sample => sample.metric === metric)
        .map(({ attributes, more, value }) => [
          Object.values({ ...more, ...attributes }).join(),
          value,
        ]),
    );
  return {
    kernel,
    source,
    of: (living: LivingInstance, metric: string) => told(source.samples(living), metric),
    host: (metric: string) => told(source.host(), metric),
  };
}

const modes = 'sculptor.cpu.time';
const waits = 'sculptor.runqueue.wait.by_preemptor';

test('what ran is divided as the ticks of its own interval were', t => {
  const { kernel, source, of } = stage();
  const one = life('/a', 7);
  const read = (counted: Counted) => {
    kernel.counted.set(7, counted);
    source.read([one]);
    return of(one, modes);
  };
  t.deepEqual(read({ runNs: 4 * s }), { user: 4, kernel: 0 }, 'no tick yet');
  t.deepEqual(read({ runNs: 8 * s, userNs: 3 * s, kernelNs: s }), { user: 7, kernel: 1 });
  t.deepEqual(read({ runNs: 10 * s, userNs: 3 * s, kernelNs: 2 * s }), { user: 7, kernel: 3 });
  t.deepEqual(read({ runNs: 15 * s, userNs: 3 * s, kernelNs: 2 * s }), { user: 10, kernel: 5 });
});

test('what an instance did up to its end is told, and what took its cgroup’s place is not its own', t => {
  const { kernel, source, of } = stage();
  const [one, other] = [life('/a', 7), life('/b', 8)];
  kernel.counted.set(7, { runNs: s, waitNs: s, userNs: s, wakeups: 2 });
  kernel.pairs.push([7, 8, s]);
  kernel.hot = [hotTask(7, 70), hotTask(7, 71)];
  source.read([one, other]);
  t.deepEqual(of(one, 'sculptor.task.migrations'), {
    '70,x,70,700': 1,
    '71,x,71,710': 1,
  });
  kernel.counted.set(7, { runNs: 3 * s, waitNs: 4 * s, userNs: s, kernelNs: 2 * s, wakeups: 5 });
  kernel.pairs.push([7, 8, 2 * s]);
  source.forget(new Map([[7, one]]));
  t.deepEqual(of(one, modes), { user: 1, kernel: 2 });
  t.deepEqual(of(one, waits), { '/b': 3, other: 0, none: 1 });
  t.deepEqual(of(one, 'sculptor.cpu.wakeups'), { '': 5 });
  t.deepEqual(of(one, 'sculptor.task.migrations'), {});
  kernel.counted.set(7, { runNs: 10 * s, wakeups: 9 });
  const next = life('/a', 7);
  source.read([next, other]);
  t.deepEqual(of(next, 'sculptor.cpu.wakeups'), { '': 9 });
  t.deepEqual(of(one, 'sculptor.cpu.wakeups'), { '': 5 });
});

test('who waited for one that has ended meanwhile waited for it', t => {
  const { kernel, source, of } = stage();
  const [one, other] = [life('/a', 7), life('/b', 8)];
  kernel.counted.set(7, { waitNs: 3 * s });
  source.read([one]);
  kernel.pairs.push([7, 8, 2 * s]);
  source.forget(new Map([[8, other]]));
  t.deepEqual(of(one, waits), { '/b': 2, other: 0, none: 1 });
});

test('each count is told as itself, and the wait by CPU under the number of the CPU', t => {
  const { kernel, source, of, host } = stage();
  const one = life('/a', 7, 9);
  kernel.counted.set(7, { wakeups: 1, migrations: 2, nodeMigrations: 3, involuntarySwitches: 4 });
  kernel.counted.set(9, { wakeups: 10 });
  source.read([one]);
  t.deepEqual(of(one, 'sculptor.cpu.wakeups'), { '': 11 });
  t.deepEqual(of(one, 'sculptor.cpu.migrations'), { '': 2 });
  t.deepEqual(of(one, 'sculptor.cpu.node_migrations'), { '': 3 });
  t.deepEqual(of(one, 'sculptor.cpu.context_switches'), { voluntary: 0, involuntary: 4 });
  t.deepEqual(host('sculptor.cpu.runqueue.wait'), { 0: 0, 2: 2 });
});

function hotTask(cgroupId: number, tid: number): HotTask {
  return {
    ...{ cgroupId, tid, tgid: tid, startTicks: 10 * tid, name: 'x', vcpu: null, start: 5 },
    ...{ runNs: 0, waitNs: 0, throttledNs: 0, blockedNs: [0, 0, 0, 0] },
    ...{ voluntarySwitches: 0, involuntarySwitches: 0, migrations: 1, nodeMigrations: 0 },
  };
}
