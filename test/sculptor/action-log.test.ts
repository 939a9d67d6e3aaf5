import test from 'ava';
import type { Action } from '../../src/contract/action.ts';
import { createActionLog } from '../../src/sculptor/action-log.ts';
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
