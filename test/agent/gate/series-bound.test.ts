import { createHash } from 'node:crypto';
import test from 'ava';
import { createSeriesBound } from '../../../src/agent/gate/series-bound.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const identityOf = (i: number) => createHash('sha256').update(`${i}`).digest();

test('so many series are taken, again and again, and hardly any beyond, until the window is over', t => {
  const clock = steppedClock();
  const { takes } = createSeriesBound(1000, clock);
  const taken = (from: number) =>
    Array.from({ length: 1000 }, (_, i) => takes(identityOf(from + i), 1)).filter(Boolean).length;
  t.is(taken(0), 1000);
  t.true(taken(1000) < 60, 'one in forty is taken for one that was there');
  t.is(taken(0), 1000);
  clock.step(599);
  t.true(taken(2000) < 60);
  clock.step(1);
  t.true(taken(1000) > 990);
});

test('what is many series at once is taken whole or not at all', t => {
  const { takes } = createSeriesBound(100, steppedClock());
  t.false(takes(identityOf(0), 101));
  t.true(takes(identityOf(1), 60));
  t.false(takes(identityOf(2), 60));
  t.true(takes(identityOf(3), 40));
  t.true(takes(identityOf(1), 60), 'known already');
});
