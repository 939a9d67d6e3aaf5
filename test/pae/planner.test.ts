import test from 'ava';
import { policySchema } from '../../src/contract/policy.ts';
import { shareOf, wantedShare, weightFor } from '../../src/pae/planner/sizing.ts';
import { stillNeeded } from '../../src/pae/planner/still-needed.ts';
import { placement, resourcePoints, type StreamInstance, startStream } from './stream.ts';

const critical = { match: '/critical', class: 'latency-critical' as const };
const batchRule = { match: '/batch*', class: 'batch' as const };
const waiting: StreamInstance = { id: '/critical', load: { used: 0.2, wait: 0.35 } };
const batches = (count: number): StreamInstance[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `/batch${i + 1}`,
    load: { used: 1.77 / count, wait: 1 - 1.77 / count },
  }));

test('the weight is the smallest hundred whose share is the wanted one', t => {
  for (const contenders of [50, 100, 200, 400]) {
    const weight = weightFor(wantedShare(0.3), contenders) ?? 0;
    t.true(shareOf(weight, contenders) >= wantedShare(0.3));
    t.true(weight === 100 || shareOf(weight - 100, contenders) < wantedShare(0.3));
  }
});

test('past the largest weight there is none, unless the largest is prompt enough', t => {
  t.is(weightFor(0.94, 800), 10_000);
  t.is(weightFor(0.94, 5000), null);
});

test('an undeclared instance whose tasks all sleep at times is taken for latency-critical, and that is said', t => {
  const { run } = startStream([waiting, ...batches(8)], [batchRule]);
  t.deepEqual(run(2).recommendations, [], 'one that has just begun to spin looks the same');
  const [recommendation] = run(2).recommendations;
  t.deepEqual(recommendation?.evidence.class, { is: 'latency-critical', source: 'inferred' });
});

test('an undeclared instance with a task that never sleeps is not', t => {
  const { run } = startStream(
    [{ id: '/spinner', load: { used: 0.2, wait: 0.8 } }, ...batches(8)],
    [batchRule],
  );
  t.deepEqual(run(5).recommendations, []);
});

test('a daemon that hardly runs at another level of the tree does not stand against a weight', t => {
  const daemon: StreamInstance = { id: '/system/d', load: { used: 0.03 } };
  const tenants = [waiting, ...batches(8)].map(each => ({ ...each, path: `/tenants${each.id}` }));
  const { run } = startStream([...tenants, daemon], [critical, batchRule]);
  const [first] = run(2).recommendations;
  t.true('weight' in (first?.moves[0]?.set ?? {}));
});

test('what is below a sibling competes as part of it, with its one weight', t => {
  const inside = batches(8).map(each => ({ ...each, path: `/pool${each.id}` }));
  const pool = { id: '/pool', weight: 300, load: { used: 0 } };
  const sizeOf = (...others: StreamInstance[]) => {
    const { run } = startStream([waiting, ...others], [critical, batchRule]);
    const set = run(2).recommendations[0]?.moves[0]?.set;
    return set && 'weight' in set ? set.weight : null;
  };
  t.is(sizeOf(...inside), weightFor(wantedShare(0.3), 50), 'of which nothing else is known');
  t.is(sizeOf(...inside, pool), weightFor(wantedShare(0.3), 150));
});

test('what is below one that is told to have no weight competes task by task, as that one does', t => {
  const inside = batches(8).map(each => ({ ...each, path: `/pool${each.id}` }));
  const pool = (weight: number | null) => ({ id: '/pool', weight, load: { used: 0 } });
  const supplyBeside = (weight: number | null) => {
    const { run, core } = startStream([waiting, ...inside, pool(weight)], [critical, batchRule]);
    run(1);
    return core
      .verdicts()
      .find(({ instance }) => instance === '/critical')
      ?.supplyCores.toFixed(3);
  };
  t.is(supplyBeside(100), (100 / (100 + 50)).toFixed(3));
  t.is(supplyBeside(null), (100 / (100 + 400)).toFixed(3));
});

test('what the host itself uses is no loss of those that are confined: it stays where it is', t => {
  const beside: StreamInstance[] = [
    { id: '/batch1', load: { used: 0.4, wait: 0.6 } },
    { id: '/batch2', load: { used: 0.4, wait: 0.6 } },
    { id: '/', load: { used: 0.9, wait: 0.6 }, weight: null },
    { id: '/asleep', load: { used: 0 } },
  ];
  const { run } = startStream([waiting, ...beside], [critical, batchRule]);
  const alternatives = run(2).recommendations[0]?.evidence.alternatives;
  const confined = alternatives?.find(({ kind }) => kind === 'affinity');
  t.is(confined?.size, 'cpus 1');
  t.is(confined?.lossRatio, 0);
});

test('tasks of cgroups without a weight compete one by one, with any number of CPUs', t => {
  const service = (name: string, load: StreamInstance['load']): StreamInstance => ({
    ...{ id: `/system.slice/${name}`, load, weight: null, tasks: 4 },
  });
  const rule = { match: '/system.slice/ours', class: 'latency-critical' as const };
  const all = [service('ours', { used: 0.2, wait: 0.4 }), service('b', { used: 1.8, wait: 2.2 })];
  const { run, core } = startStream(all, [rule]);
  t.deepEqual(run(2).recommendations, []);
  const verdict = core.verdicts().find(({ instance }) => instance === '/system.slice/ours');
  // Four tasks on two CPUs are two beside ours on each.
  t.is(verdict?.supplyCores.toFixed(3), (1 / 3).toFixed(3));
  t.regex(
    verdict?.why ?? '',
    /weight: its cgroup has no weight: the cpu controller is not enabled/,
  );
});

test('of two pinned instances that both may be widened one is, and the other waits for what it brings', t => {
  const pinned = (id: string): StreamInstance => ({
    id,
    load: { used: 0.5, wait: 0.5 },
    cpus: [0],
    cpusetPath: id,
  });
  const rule = { match: '/*', allowWidening: true };
  const { run, core } = startStream([pinned('/a'), pinned('/b')], [rule], 2, [1]);
  t.is(run(5).recommendations.length, 1);
  t.regex(core.verdicts().find(each => each.instance === '/b')?.why ?? '', /a move for \/a comes/);
});

test('tasks whose own masks are narrower than their cpuset are widened by name', t => {
  const pinned: StreamInstance = { id: '/a', load: { used: 1, wait: 1 }, tasks: 2 };
  const { run, core } = startStream([pinned], [{ match: '/a', allowWidening: true }], 2, [1]);
  const placed = placement(pinned, [0, 1]);
  const tasks = placed.tasks.map(task => ({ ...task, affinity: [0] }));
  core.host.placements.set('/a', { ...placed, tasks });
  const [move] = run(2).recommendations[0]?.moves ?? [];
  t.deepEqual(move?.set, { cpus: [0, 1] });
  t.deepEqual(move?.tasks, [
    { kind: 'thread', tid: 1000, startTicks: 1 },
    { kind: 'thread', tid: 1001, startTicks: 1 },
  ]);
});

test('SCHED_IDLE is nothing for who has no cpu.idle, nor where all have it already', t => {
  const pool = batches(2).map(each => ({ ...each, path: `/pool${each.id}` }));
  const whyNot = (...idle: (boolean | null)[]) => {
    const { run, core } = startStream(
      [{ ...waiting, path: '/tenants/a' }, ...pool],
      [critical, batchRule],
    );
    const policy = core.host.policy;
    core.host.policy = { ...policy, limits: { ...policy.limits, maxTouchedRatio: 1 } };
    pool.forEach((each, i) => {
      const placed = placement(each, [0, 1]);
      const cgroup = { ...placed.cgroup, idle: idle[i] ?? null };
      core.host.placements.set(each.id, { ...placed, cgroup });
    });
    const { recommendations } = run(2);
    const why = core.verdicts().find(each => each.instance === '/critical')?.why ?? '';
    return recommendations.length > 0 ? null : /idle: ([^;]*)/.exec(why)?.[1];
  };
  t.is(whyNot(false, true), null);
  t.is(whyNot(false, null), '/batch2 has no cpu.idle');
  t.is(whyNot(true, true), 'they are SCHED_IDLE already');
});

test('late samples are counted, and nothing is judged by them', t => {
  const { intake, run, core } = startStream([waiting, ...batches(8)], [critical, batchRule]);
  run(2);
  const before = core.verdicts();
  const late = {
    resource: { 'sculptor.instance.id': '/critical', 'sculptor.instance.kind': 'cgroup' },
    points: ['container.cpu.time', 'sculptor.runqueue.wait', 'sculptor.cpu.throttled.time'].map(
      metric => ({
        metric,
        unit: 's',
        type: 'sum' as const,
        monotonic: true,
        temporality: 'cumulative' as const,
        attributes: {},
        start: 999_000,
        time: 1_000_000.5,
        value: 0,
      }),
    ),
  };
  t.deepEqual(intake.metrics([late]), []);
  t.is(core.series.counters().late, 1);
  t.deepEqual(core.verdicts(), before);
});

test('a kept weight is needed while the CPUs are full, and not when one has room', t => {
  const { core } = startStream([waiting, ...batches(8)], [critical, batchRule]);
  const placed = core.host.placements.get('/critical');
  if (!placed) throw new Error('not placed');
  const action = {
    moves: [{ instance: placed.instance, tasks: [], set: { weight: 6300 } }],
    allocations: [],
  };
  const observation = {
    time: 0,
    spanSeconds: 1,
    usedCores: 0.23,
    waitCores: 0.01,
    throttledCores: 0,
  };
  const beside = (activities: number[], tasks = 1) => ({
    instances: 9,
    cpus: [0, 1],
    contendersWeight: 0,
    contenders: activities.map(activity => ({
      placement: placed,
      observation: { ...observation, usedCores: 0.4 * tasks, waitCores: 0.6 * tasks },
      activity,
      rule: null,
      isHost: false,
      sibling: true,
    })),
  });
  t.true(stillNeeded(action, placed, beside([1, 1, 1, 1]), observation));
  t.false(stillNeeded(action, placed, beside([1]), observation));
  t.true(stillNeeded(action, placed, beside([1], 4), observation), 'one of four tasks is as full');
  t.false(stillNeeded(action, placed, beside([1, 1]), { ...observation, usedCores: 0 }));
});

test('where its own tasks contend in one cgroup nothing is moved, and the verdict names the cure', t => {
  const crowded: StreamInstance = { id: '/critical', load: { used: 1.9, wait: 2.5 }, tasks: 5 };
  const { run, core } = startStream([crowded], [critical]);
  t.deepEqual(run(5).recommendations, []);
  t.regex(core.verdicts()[0]?.why ?? '', /its own tasks contend in one cgroup/);
});

test('contention that ended a moment ago is not acted on, neither by old windows nor by one that spans its end', t => {
  const { run, core, intake, now } = startStream([waiting, ...batches(8)], [critical, batchRule]);
  const [first] = run(1).recommendations;
  if (!first) throw new Error('nothing was recommended');
  const rejected = core.verdicts().find(each => each.instance === '/critical');
  t.is(rejected?.state, 'hot');
  t.deepEqual(core.judge(now() + 16).recommendations, [], 'its windows are old');
  const slow = resourcePoints('/critical', now() + 1, { used: 0.43, wait: 0.55, throttled: 0 });
  t.deepEqual(intake.metrics([slow]), ['/critical']);
  t.deepEqual(core.judge(now() + 1).recommendations, []);
  const verdict = core.verdicts().find(each => each.instance === '/critical');
  t.notRegex(verdict?.why ?? '', /^it waits/);
});

test('an instance that sleeps does not wait, whatever the policy calls contention', t => {
  const asleep: StreamInstance = { id: '/critical', load: { used: 0, wait: 0 } };
  const { run, core } = startStream([asleep, ...batches(8)], [critical, batchRule]);
  core.host.policy = policySchema.parse({
    instances: [critical, batchRule],
    contention: { waitCores: 0 },
  });
  t.deepEqual(run(3).recommendations, []);
  t.is(core.verdicts()[0]?.state, 'calm');
});

test('mild contention has to last before anything is moved', t => {
  const mild: StreamInstance = { id: '/critical', load: { used: 0.23, wait: 0.06 } };
  const { run } = startStream([mild, ...batches(8)], [critical, batchRule]);
  t.deepEqual(run(2.8).recommendations, []);
  t.is(run(1).recommendations.length, 1);
});
