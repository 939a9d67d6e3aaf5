import test, { type ExecutionContext } from 'ava';
import { policySchema } from '../../src/contract/policy.ts';
import type { Move } from '../../src/contract/recommendation.ts';
import type { UndoEntry } from '../../src/sculptor/actuators/actuator.ts';
import { findNeighbours } from '../../src/sculptor/neighbours.ts';
import { move } from './support/cgroup-lab.ts';
import { fakeHost } from './support/fake-host.ts';
import { recommend } from './support/recommend.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

/** Instances of one task each, and where it may run; /empty has none of its own. */
function stage(t: ExecutionContext) {
  const host = fakeHost(t);
  const masks = { a: [0], b: [1], c: [1, 2], d: [3], e: [2] };
  for (const [i, [name, cpus]] of Object.entries(masks).entries()) {
    host.makeCgroup(name, [i + 1]);
    host.threads.set(i + 1, { cpus, startTicks: i + 1, own: true });
  }
  host.makeCgroup('empty');
  return (moves: Move[], entries: Partial<UndoEntry>[] = [], policy: object = {}) =>
    findNeighbours(
      host.kernel,
      policySchema.parse(policy),
      recommend(host.clock.unixSeconds(), '/a', moves),
      entries as UndoEntry[],
      ['/', '/a', '/b', '/c', '/d', '/e', uuid],
    );
}

const ids = ({ neighbours, controls }: ReturnType<ReturnType<typeof stage>>) => [
  neighbours.map(({ instance }) => instance),
  controls,
];

test('who is moved, who shares a CPU with it, and who may be anywhere are watched; the others are controls', t => {
  const found = stage(t);
  t.deepEqual(ids(found([move('/b', { weight: 5 })])), [
    ['/b', '/c', uuid],
    ['/d', '/e'],
  ]);
  const moved = [{ kind: 'affinity' as const, before: '1,3', wanted: '1' }];
  t.deepEqual(
    ids(found([move('/b', { cpus: [1] })], moved)),
    [['/b', '/c', '/d', uuid], ['/e']],
    'also on a CPU that it left',
  );
});

test('of an instance that is found near by its first thread no other is asked: of many that would take long', t => {
  const host = fakeHost(t);
  const tids = [1, 2, 3, 4];
  host.makeCgroup('a', [10]);
  host.makeCgroup('many', tids);
  for (const tid of [10, ...tids])
    host.threads.set(tid, { cpus: [tid === 1 ? 1 : 0, 1], startTicks: tid, own: true });
  const asked: number[] = [];
  const { getAffinity } = host.kernel.native;
  host.kernel.native.getAffinity = tid => {
    asked.push(tid);
    return getAffinity(tid);
  };
  const recommendation = recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 5 })]);
  const known = ['/a', '/many'];
  const found = findNeighbours(host.kernel, policySchema.parse({}), recommendation, [], known);
  t.deepEqual(
    found.neighbours.map(({ instance }) => instance),
    ['/many'],
  );
  t.deepEqual(asked, [10, 1]);
});

test('where it is not known which CPUs are touched all are', t => {
  const found = stage(t);
  const all = ['/b', '/c', '/d', '/e', uuid];
  const inherited = [{ kind: 'cpuset' as const, before: '', wanted: '1' }];
  t.deepEqual(ids(found([move('/b', { cpus: [1] })], inherited)), [all, []]);
  t.deepEqual(ids(found([move('/empty', { weight: 5 })])), [['/empty', ...all], []]);
});

test('what a neighbour may lose is its own rule’s, or its class’s; declared batch that is out-weighed has time', t => {
  const found = stage(t);
  const policy = {
    maxDegradationRatio: 0.03,
    batch: {
      confinedDegradationRatio: 0.2,
      outweighedDegradationRatio: 0.6,
      windowSeconds: 20,
    },
    instances: [
      { match: '/b', class: 'batch' },
      { match: '/c', class: 'batch', maxDegradationRatio: 0.4 },
      { match: '/d', maxDegradationRatio: 0.3 },
    ],
  };
  const onAll = [{ kind: 'affinity' as const, before: '1,3', wanted: '1' }];
  const limits = (set: Move['set']) =>
    found([move('/b', set)], onAll, policy).neighbours.map(
      ({ instance, limitRatio, windowSeconds }) => [instance, limitRatio, windowSeconds],
    );
  t.deepEqual(limits({ weight: 5 }), [
    ['/b', 0.6, 20],
    ['/c', 0.4, 20],
    ['/d', 0.3, 0],
    [uuid, 0.03, 0],
  ]);
  t.deepEqual(limits({ cpus: [1] }), [
    ['/b', 0.2, 0],
    ['/c', 0.4, 0],
    ['/d', 0.3, 0],
    [uuid, 0.03, 0],
  ]);
});
