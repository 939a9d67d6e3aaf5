import test from 'ava';
import type { Action } from '../../src/contract/action.ts';
import { policySchema } from '../../src/contract/policy.ts';
import type { Recommendation } from '../../src/contract/recommendation.ts';
import { recommendationSchema } from '../../src/contract/recommendation.ts';
import { placement, type StreamInstance, startStream } from './stream.ts';

const critical = { match: '/critical', class: 'latency-critical' as const };
const batchRule = { match: '/batch*', class: 'batch' as const };

function batches(
  count: number,
  load = { used: 1.77 / count, wait: 1 - 1.77 / count },
): StreamInstance[] {
  return Array.from({ length: count }, (_, i) => ({ id: `/batch${i + 1}`, load }));
}

function weightOf(recommendation: Recommendation | undefined): number {
  const set = recommendation?.moves[0]?.set;
  return set && 'weight' in set ? set.weight : 0;
}

const contendedCritical: StreamInstance = { id: '/critical', load: { used: 0.2, wait: 0.35 } };

test('beside eight batch instances the critical one gets one weight, of the size its share needs', t => {
  const { run, core } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  const [first, ...more] = run(2).recommendations;
  t.truthy(first);
  t.is(more.length, 0, 'it is not said again while an answer is awaited');
  t.deepEqual(
    first?.moves.map(move => [move.instance.id, move.tasks]),
    [['/critical', []]],
  );
  const weight = weightOf(first);
  // Eight contenders of weight 100 on two CPUs: 400 a CPU. A share of 0.94 takes 6267.
  t.true(weight >= 5000 && weight <= 8000, `weight ${weight}`);
  t.true(recommendationSchema.safeParse(first).success);
  t.is(core.verdicts().find(verdict => verdict.instance === '/critical')?.state, 'hot');
  const kinds = first?.evidence.alternatives.filter(alternative => !alternative.chosen) ?? [];
  t.true(kinds.length >= 3 && kinds.every(alternative => alternative.why.length > 10));
});

test('it is recommended within two read intervals of the first contended one', t => {
  const { run } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  t.is(run(0.4).recommendations.length, 0, 'one sample begins the series, one is a single window');
  t.is(run(0.2).recommendations.length, 1);
});

test('beside more instances than a recommendation may name it names those that lose most, and one that moves them all is none', t => {
  const { run } = startStream(
    [contendedCritical, ...batches(1100, { used: 0.005, wait: 0.025 })],
    [critical, batchRule],
    8,
  );
  const [first] = run(0.6).recommendations;
  t.true(weightOf(first) > 0);
  t.is(first?.cost.length, 1024);
  t.true(recommendationSchema.safeParse(first).success);
  const idle = first?.evidence.alternatives.find(({ kind }) => kind === 'idle');
  t.regex(idle?.why ?? '', /would touch 1100 instances; 1024 may be moved at once/);
});

test('twice the contenders take more weight', t => {
  const sizeFor = (count: number) =>
    weightOf(
      startStream([contendedCritical, ...batches(count)], [critical, batchRule]).run(2)
        .recommendations[0],
    );
  t.true(
    sizeFor(4) < sizeFor(8) && sizeFor(8) < sizeFor(12),
    `${sizeFor(4)} ${sizeFor(8)} ${sizeFor(12)}`,
  );
});

test('an instance whose demand is within its share never gets a move, and the verdict says why', t => {
  const alone: StreamInstance = { id: '/critical', load: { used: 0.23, wait: 0.004 } };
  const { run, core } = startStream(
    [alone, { id: '/batch1', load: { used: 1, wait: 0.01 } }],
    [critical, batchRule],
  );
  t.deepEqual(run(30).recommendations, []);
  const verdict = core.verdicts().find(each => each.instance === '/critical');
  t.is(verdict?.state, 'within-share');
  t.regex(verdict?.why ?? '', /within what its share is worth/);
});

test('an instance that its own quota throttles never gets a move', t => {
  const throttled: StreamInstance = {
    id: '/critical',
    load: { used: 0.2, wait: 0.01, throttled: 0.79 },
    quotaCores: 0.2,
  };
  const { run, core } = startStream([throttled], [critical]);
  t.deepEqual(run(30).recommendations, []);
  t.is(core.verdicts()[0]?.state, 'throttled');
});

test('nor does one that waits as well, but is throttled more: with less wait it would be throttled sooner', t => {
  const load = { used: 0.2, wait: 0.35, throttled: 0.45 };
  const throttled: StreamInstance = { id: '/critical', load, quotaCores: 0.2 };
  const { run, core } = startStream([throttled, ...batches(8)], [critical, batchRule]);
  t.deepEqual(run(30).recommendations, []);
  t.is(core.verdicts()[0]?.state, 'throttled');
  throttled.load = { ...load, throttled: 0.1 };
  t.is(run(1).recommendations.length, 1);
});

test('batch gets no weight, however long it waits', t => {
  const { run } = startStream(batches(8), [batchRule]);
  t.deepEqual(run(10).recommendations, []);
});

test('what is not declared batch is not made to lose more than a neighbour may', t => {
  const { run, core } = startStream(
    [{ id: '/critical', load: { used: 0.2, wait: 0.6 } }, ...batches(8)],
    [critical],
  );
  t.deepEqual(run(10).recommendations, []);
  t.regex(
    core.verdicts().find(each => each.instance === '/critical')?.why ?? '',
    /would lose .* more than the 2 %/,
  );
});

test('two instances confined to one CPU are widened where the policy allows it', t => {
  const pinned = (id: string): StreamInstance => ({
    id,
    load: { used: 0.5, wait: 0.5 },
    cpus: [0],
    cpusetPath: id,
  });
  const { run } = startStream(
    [pinned('/a'), pinned('/b')],
    [{ match: '/a', allowWidening: true }],
    2,
    [1],
  );
  const { recommendations } = run(3);
  t.is(recommendations.length, 1);
  t.deepEqual(
    recommendations[0]?.moves.map(({ instance, tasks, set }) => [instance.id, tasks, set]),
    [['/a', [], { cpus: [0, 1] }]],
  );
  t.deepEqual(recommendations[0]?.cost, []);
});

test('pinning is taken as intended where the policy does not allow widening', t => {
  const pinned = (id: string): StreamInstance => ({
    id,
    load: { used: 0.5, wait: 0.5 },
    cpus: [0],
    cpusetPath: id,
  });
  const { run, core } = startStream([pinned('/a'), pinned('/b')], [], 2, [1]);
  t.deepEqual(run(10).recommendations, []);
  t.regex(core.verdicts()[0]?.why ?? '', /allowWidening/);
});

test('a protected contender is not moved', t => {
  const elsewhere = batches(3).map(batch => ({ ...batch, path: `/pool${batch.id}` }));
  const { run } = startStream(
    [{ ...contendedCritical, path: '/tenants/critical' }, ...elsewhere],
    [critical, { match: '/batch*', class: 'batch', protected: true }],
  );
  t.deepEqual(run(5).recommendations, []);
});

function actionFor(
  recommendation: Recommendation,
  state: Action['state'],
  at: number,
  more: Partial<Action> = {},
): Action {
  return {
    id: '11111111-1111-4111-8111-111111111111',
    recommendationId: recommendation.id,
    hostId: 'host',
    state,
    previousState: null,
    mode: 'enforce',
    at,
    reason: null,
    beneficiary: recommendation.beneficiary,
    mechanism: 'direct',
    mechanisms: [],
    moves: recommendation.moves,
    allocations: [],
    predicted: recommendation.predicted,
    realised: null,
    leaseEnds: at + 60,
    ...more,
  };
}

test('a kept action is renewed at half its lease, and given back when nothing competes any more', t => {
  const instances: StreamInstance[] = [{ ...contendedCritical }, ...batches(8)];
  const { run, core, now } = startStream(instances, [critical, batchRule]);
  const [recommendation] = run(1).recommendations;
  if (!recommendation) throw new Error('nothing was recommended');
  core.takeAction(actionFor(recommendation, 'kept', now()));
  t.deepEqual(run(29).recommendations, []);
  const [renewal] = run(3).recommendations;
  t.is(renewal?.renews, '11111111-1111-4111-8111-111111111111');
  t.deepEqual(renewal?.moves, recommendation.moves);

  for (const instance of instances) instance.load = { used: 0, wait: 0 };
  t.is(run(9).withdrawals.length, 0);
  t.is(run(3).withdrawals[0]?.actionId, '11111111-1111-4111-8111-111111111111');
});

test('an action whose end was lost on the way holds nobody longer than its lease', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  const [recommendation] = run(1).recommendations;
  if (!recommendation) throw new Error('nothing was recommended');
  core.takeAction(actionFor(recommendation, 'kept', now()));
  const asked = run(69).recommendations;
  t.true(asked.length > 0 && asked.every(({ renews }) => renews !== undefined));
  core.judge(now() + 2);
  const [again] = run(2).recommendations;
  t.is(again?.renews, undefined);
  t.deepEqual(again?.moves, recommendation.moves);
});

test('while the CPUs are not known nothing is judged: nobody would seem to compete, and what runs would be given back', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  const [recommendation] = run(1).recommendations;
  if (!recommendation) throw new Error('nothing was recommended');
  core.takeAction(actionFor(recommendation, 'kept', now()));
  core.host.topology = null;
  t.deepEqual(run(15), { recommendations: [], withdrawals: [] });
});

test('a move that was not enough is followed by the next size, after a while', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(4)], [critical, batchRule]);
  const [first] = run(1).recommendations;
  if (!first) throw new Error('nothing was recommended');
  core.takeAction(
    actionFor(first, 'rolled-back', now(), {
      reason: { code: 'neutral', message: 'no difference' },
    }),
  );
  t.deepEqual(run(25).recommendations, []);
  const [second] = run(10).recommendations;
  t.is(weightOf(second), weightOf(first) * 2);
});

test('what was refused by mode is recommended again as soon as the mode allows it', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  const [first] = run(1).recommendations;
  if (!first) throw new Error('nothing was recommended');
  const refuse = () =>
    core.takeAction(
      actionFor(first, 'rejected', now(), { reason: { code: 'mode', message: 'observe' } }),
    );
  refuse();
  core.takePolicy(core.host.policy, 'observe');
  t.deepEqual(run(2).recommendations, []);
  core.takePolicy(core.host.policy, 'enforce');
  t.is(run(0.4).recommendations.length, 1);
});

test('a kind of move that the sculptor cannot carry out is followed by another, and is tried again after a while', t => {
  const pool = batches(2).map(each => ({
    ...each,
    path: `/pool${each.id}`,
    cpusetPath: `/pool${each.id}`,
  }));
  const waits: StreamInstance = {
    id: '/critical',
    path: '/tenants/critical',
    load: { used: 0.2, wait: 0.6 },
  };
  const { run, core, now } = startStream([waits, ...pool], [critical, batchRule], 4);
  core.takePolicy(
    { ...core.host.policy, limits: { ...core.host.policy.limits, maxTouchedRatio: 1 } },
    'enforce',
  );
  const setsOf = ({ recommendations }: ReturnType<typeof run>) =>
    recommendations.map(({ moves }) => Object.keys(moves[0]?.set ?? {}));
  const asked = run(1);
  t.deepEqual(setsOf(asked), [['idle']]);
  const [first] = asked.recommendations;
  if (!first) throw new Error('nothing was recommended');
  const reason = { code: 'owned', message: 'cgroup /batch1 is owned by systemd' } as const;
  core.takeAction(actionFor(first, 'rejected', now(), { reason }));
  const next = run(11);
  t.deepEqual(setsOf(next), [['cpus']]);
  const idle = next.recommendations[0]?.evidence.alternatives.find(({ kind }) => kind === 'idle');
  t.is(idle?.why, 'the sculptor cannot: cgroup /batch1 is owned by systemd');
  run(290);
  t.deepEqual(setsOf(run(15)), [['idle']]);
});

const needsYes = { code: 'approval-needed', message: 'waits 600 s for a yes' } as const;

test('what waits for a yes is not recommended again until it is answered or has expired, nor is another move of what it moves', t => {
  const pinned: StreamInstance = { ...contendedCritical, path: '/tenants/critical', cpus: [0] };
  const other: StreamInstance = { ...pinned, id: '/other', path: '/tenants/other', cpus: [1] };
  const rules = [critical, batchRule, { ...critical, match: '/other' }];
  // Both may gain only by SCHED_IDLE on the batch, which lies at another level of the tree than either.
  const pool = batches(2).map(each => ({ ...each, path: `/pool${each.id}` }));
  const { run, core, now } = startStream([pinned, other, ...pool], rules);
  const [first, ...more] = run(1).recommendations;
  if (!first) throw new Error('nothing was recommended');
  t.deepEqual([first.beneficiary.id, first.moves.length, more.length], ['/critical', 2, 0]);
  core.takeAction(actionFor(first, 'parked', now(), { reason: needsYes }));
  t.deepEqual(run(590).recommendations, []);
  const whyOf = (id: string) => core.verdicts().find(each => each.instance === id)?.why ?? '';
  t.regex(whyOf('/critical'), /needs a yes: see `sculpt actions`/);
  t.regex(whyOf('/other'), /a move for \/critical comes first/);
  const reason = { code: 'approval-expired', message: 'nobody said yes' } as const;
  core.takeAction(actionFor(first, 'rejected', now(), { reason }));
  const [next] = run(1).recommendations;
  t.is(next?.beneficiary.id, '/other');
});

test('who asks again for what waits for a yes already is told so, and waits as well', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  const [first] = run(1).recommendations;
  if (!first) throw new Error('nothing was recommended');
  core.takeAction(actionFor(first, 'deferred', now(), { reason: needsYes }));
  t.deepEqual(run(60).recommendations, []);
});

test('a renewal that waits for a yes is not asked for again', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  const [first] = run(1).recommendations;
  if (!first) throw new Error('nothing was recommended');
  core.takeAction(actionFor(first, 'kept', now()));
  const [renewal] = run(31).recommendations;
  if (!renewal) throw new Error('no renewal');
  const id = '22222222-2222-4222-8222-222222222222';
  core.takeAction(actionFor(renewal, 'parked', now(), { id, reason: needsYes }));
  t.deepEqual(run(28).recommendations, []);
});

test('what waits for a yes is recommended again once the mode asks for none', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  const [first] = run(1).recommendations;
  if (!first) throw new Error('nothing was recommended');
  core.takeAction(actionFor(first, 'parked', now(), { reason: needsYes }));
  run(20);
  core.takePolicy(core.host.policy, 'approve');
  t.deepEqual(run(1).recommendations, []);
  const asks = { ...core.host.policy.instances[0], match: '/critical', mode: 'approve' as const };
  core.takePolicy(policySchema.parse({ instances: [asks, batchRule] }), 'enforce');
  t.deepEqual(run(1).recommendations, []);
  core.takePolicy(policySchema.parse({ instances: [critical, batchRule] }), 'enforce');
  t.is(run(1).recommendations.length, 1);
});

test('who has not been heard of for a while competes with nobody, and nothing is thought of it', t => {
  const all = [contendedCritical, ...batches(8)];
  const { run, core, now } = startStream(all, [critical, batchRule]);
  run(1);
  // They end while there is no agent that could tell it.
  all.length = 1;
  run(16);
  core.judge(now());
  t.deepEqual(
    core.verdicts().map(({ instance }) => instance),
    ['/critical'],
  );
  t.regex(core.verdicts()[0]?.why ?? '', /nobody else competes/);
});

test('who ended while there was no agent to tell it is none of the instances of which a move touches a share, and is forgotten', t => {
  const { run, core, now } = startStream([contendedCritical, ...batches(8)], [critical, batchRule]);
  for (let i = 0; i < 20; i += 1) {
    const ghost = placement({ id: `/ghost${i}`, load: { used: 0 } }, [0, 1]);
    core.host.placements.set(ghost.instance.id, ghost);
  }
  const [recommendation] = run(1).recommendations;
  const idle = recommendation?.evidence.alternatives.find(({ kind }) => kind === 'idle');
  t.is(idle?.why, 'would touch 8 of 9 instances; the policy allows 50 %');
  core.judge(now());
  // An hour is the longest interval at which an agent tells those again that live.
  core.judge(now() + 3600);
  t.is(core.host.placements.size, 29);
  core.host.placements.set('/ghost1', placement({ id: '/ghost1', load: { used: 0 } }, [0, 1]));
  const nothing = { spanSeconds: 1, usedCores: 0, waitCores: 0, throttledCores: 0 };
  core.takeObservation('/critical', { time: now() + 3999, ...nothing });
  core.judge(now() + 4000);
  t.deepEqual([...core.host.placements.keys()], ['/critical', '/ghost1']);
});

test('of an instance that is left alone nothing is thought any more', t => {
  const { run, core, now } = startStream([contendedCritical], [critical]);
  run(1);
  t.is(core.verdicts().length, 1);
  core.takePolicy(policySchema.parse({ instances: [{ ...critical, mode: 'off' }] }), 'observe');
  core.judge(now());
  t.deepEqual(core.verdicts(), []);
});

test('a recorded stream replays to the same recommendations', t => {
  const play = () => startStream([contendedCritical, ...batches(8)], [critical, batchRule]).run(40);
  t.deepEqual(play(), play());
});
