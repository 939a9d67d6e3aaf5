import test from 'ava';
import type { Action } from '../../src/contract/action.ts';
import { policySchema } from '../../src/contract/policy.ts';
import { createHistory, involved } from '../../src/sculptor/history.ts';
import { instance, move } from './support/cgroup-lab.ts';

const policy = policySchema.parse({});
const hour = 3600;

/** An action for /a that moved /b, and ended then. */
const past = (at: number, state: Action['state'], code: string, leaseEnds: number | null = at) =>
  ({
    ...{ at, state, leaseEnds, reason: { code, message: '' } },
    beneficiary: instance('/a'),
    moves: [move('/b', { idle: true })],
  }) as unknown as Action;

test('of an earlier life the roll-backs in a row are known, and what was done within the hour, in whatever order it is told', t => {
  const history = createHistory([
    past(3000, 'rolled-back', 'worse'),
    past(1000, 'rolled-back', 'worse'),
    past(2500, 'rolled-back', 'neutral'),
    past(2000, 'restored', 'lease-ended'),
    past(3100, 'restored', 'withdrawn'),
    past(3200, 'rejected', 'limit', null),
  ]);
  for (const id of ['/a', '/b']) {
    t.deepEqual(history.restsUntil(id, policy, 3001), {
      until: 3120,
      why: 'cool-down',
      rollbacks: 2,
    });
    t.is(history.admittedLastHour(id, 3200), 5);
  }
  t.is(history.restsUntil('/c', policy, 3001), null);
  t.is(history.admittedLastHour('/c', 3200), 0);
});

test('an action counts for an hour, and a row of roll-backs for a day after the last', t => {
  const history = createHistory([]);
  history.admitted(['/a'], 0);
  for (let i = 0; i < 3; i += 1) history.rolledBack(['/a'], 0);
  history.prune(hour - 1);
  t.is(history.admittedLastHour('/a', hour - 1), 1);
  t.is(history.admittedLastHour('/a', hour), 0);
  t.deepEqual(history.restsUntil('/a', policy, hour - 1), {
    until: hour,
    why: 'frozen',
    rollbacks: 3,
  });
  t.is(history.restsUntil('/a', policy, hour), null);
  history.prune(24 * hour);
  history.rolledBack(['/a'], 24 * hour);
  t.is(history.restsUntil('/a', policy, 24 * hour)?.rollbacks, 4);
  history.prune(48 * hour + 1);
  history.rolledBack(['/a'], 48 * hour + 1);
  t.is(history.restsUntil('/a', policy, 48 * hour + 1)?.rollbacks, 1);
});

test('what was done within the hour is known also of an instance of which nothing was rolled back', t => {
  const history = createHistory([]);
  const now = 1_700_000_000;
  history.admitted(['/a'], now);
  history.prune(now + hour - 1);
  t.is(history.admittedLastHour('/a', now + hour - 1), 1);
});

test('an instance that is moved more than once, or for itself, counts once', t => {
  const moves = [
    move('/a', { idle: true }),
    move('/b', { idle: true }),
    move('/b', { weight: 50 }),
  ];
  t.deepEqual(involved({ beneficiary: instance('/a'), moves }), ['/a', '/b']);
  t.deepEqual(involved({ beneficiary: null, moves: [] }), []);
});
