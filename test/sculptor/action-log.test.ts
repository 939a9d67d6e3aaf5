import test from 'ava';
import type { Action } from '../../src/contract/action.ts';
import { createActionLog, unknownId } from '../../src/sculptor/action-log.ts';
import { steppedClock } from '../support/stepped-clock.ts';

test('of an action that is over a hundred allocations are kept, and all are told', t => {
  const told: Action[] = [];
  const log = createActionLog({
    ...{ hostId: 'host-1', clock: steppedClock() },
    emit: action => void told.push(action),
  });
  const allocations = Array.from({ length: 1000 }, (_, i) => ({
    ...{ resource: `affinity:${i}@1`, before: '0-3', wanted: '3', after: '0-3' },
  }));
  log.to(log.begin(null, 'enforce'), 'restored', null, { allocations });
  t.is(told.at(-1)?.allocations.length, 1000);
  t.is(log.list()[0]?.allocations.length, 100);
});

test('an action of a former life that comes to its end is listed once', t => {
  const options = { hostId: 'host-1', clock: steppedClock(), emit: () => undefined };
  const held = createActionLog(options).begin(null, 'enforce');
  const log = createActionLog({ ...options, past: [{ ...held, state: 'observing' }] });
  log.put({ ...held, state: 'restored', previousState: 'observing' });
  t.deepEqual(
    log.list().map(action => action.state),
    ['restored'],
  );
});

test('of the actions that are over the last 500 are kept, be they of a former life, and the newest is listed first', t => {
  const clock = steppedClock();
  const options = { hostId: 'host-1', clock, emit: () => undefined };
  const held = createActionLog(options).begin(null, 'enforce');
  const past = Array.from({ length: 600 }, (_, i): Action => {
    return { ...held, id: `past ${i}`, state: 'restored', at: clock.unixSeconds() - i };
  });
  const log = createActionLog({ ...options, past });
  const ids = () => log.list().map(({ id }) => id);
  t.deepEqual(
    ids(),
    past.slice(0, 500).map(({ id }) => id),
  );
  clock.step(1);
  const running = log.begin(null, 'enforce');
  t.deepEqual(ids().slice(0, 2), [running.id, 'past 0']);
  clock.step(1);
  log.to(running, 'rejected', null);
  t.deepEqual([ids().length, ids()[0], ids().at(-1)], [500, running.id, 'past 498']);
});

test('an action says when it changed, from what, why, and whose recommendation it is, also where that could not be read', t => {
  const clock = steppedClock();
  const told: Action[] = [];
  const log = createActionLog({
    ...{ hostId: 'host-1', clock, newId: () => 'an-id' },
    emit: action => void told.push(action),
  });
  const begun = log.begin(null, 'approve', 'recommendation-1');
  t.like(begun, {
    ...{ id: 'an-id', recommendationId: 'recommendation-1', hostId: 'host-1', mode: 'approve' },
    ...{ state: 'received', previousState: null, at: clock.unixSeconds(), moves: [] },
  });
  t.is(log.begin(null, 'approve').recommendationId, unknownId);
  clock.step(5);
  const reason = { code: 'limit', message: 'too many' } as const;
  const rejected = log.to(begun, 'rejected', reason, { mechanism: 'direct' });
  t.like(rejected, { state: 'rejected', previousState: 'received', mechanism: 'direct', reason });
  t.is(rejected.at, begun.at + 5);
  t.is(told.at(-1), rejected);
});
