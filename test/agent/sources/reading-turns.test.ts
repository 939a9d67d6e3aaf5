import test from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { createReadingTurns } from '../../../src/agent/sources/reading-turns.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

type Life = LivingInstance & { readonly totals: { runNs: number } };

const life = (name: string): Life =>
  ({ instance: { id: name, kind: 'cgroup', name }, totals: { runNs: 0 } }) as unknown as Life;

const names = (lives: readonly LivingInstance[]) => lives.map(({ instance }) => instance.name);

test('new instances are read at once, those that ran in the turns of the interval, each once', t => {
  const clock = steppedClock();
  const read: LivingInstance[] = [];
  const turns = createReadingTurns(clock, { detailIntervalSeconds: 10 }, living =>
    read.push(living),
  );
  const lives = Array.from({ length: 20 }, (_, i) => life(`/${i}`));
  turns.next(lives);
  t.deepEqual(names(read.splice(0)), names(lives));
  clock.step(10);
  t.is(read.length, 0, 'none of them ran');
  for (const one of lives) one.totals.runNs += 1;
  turns.next(lives);
  t.is(read.length, 0);
  clock.step(1);
  t.true(read.length > 0 && read.length <= 3, `${read.length} at one turn`);
  clock.step(8);
  t.deepEqual(names(read.splice(0)), names(lives));
  turns.stop();
});

test('an instance that does not run is read once a minute', t => {
  const clock = steppedClock();
  const read: LivingInstance[] = [];
  const turns = createReadingTurns(clock, { detailIntervalSeconds: 10 }, living =>
    read.push(living),
  );
  const idle = life('/idle');
  for (let i = 0; i < 14; i += 1) {
    turns.next([idle]);
    clock.step(10);
  }
  t.is(read.length, 3);
});

test('of many new instances at one time some wait for their turn, and none is left out', t => {
  const clock = steppedClock();
  const read: LivingInstance[] = [];
  const turns = createReadingTurns(clock, { detailIntervalSeconds: 10 }, living =>
    read.push(living),
  );
  const lives = Array.from({ length: 200 }, (_, i) => life(`/${i}`));
  turns.next(lives);
  t.is(read.length, 50);
  clock.step(9);
  t.is(new Set(read).size, 200);
});

test('an instance that throws holds up no other; it is counted, and thrown once at the end of an interval’s beginning', t => {
  const clock = steppedClock();
  const read: LivingInstance[] = [];
  const turns = createReadingTurns(clock, { detailIntervalSeconds: 10 }, living => {
    if (living.instance.name === '/bad') throw new Error('EMFILE');
    read.push(living);
  });
  const [good, late] = [life('/good'), life('/late')];
  const bad = life('/bad');
  t.throws(() => turns.next([bad, good]), { message: 'EMFILE' });
  t.deepEqual(names(read.splice(0)), ['/good'], 'a new one');
  for (const one of [bad, good]) one.totals.runNs = 1;
  t.notThrows(() => turns.next([bad, good]));
  clock.step(10);
  t.deepEqual(names(read.splice(0)), ['/good'], 'one that ran');
  good.totals.runNs = 2;
  t.throws(() => turns.next([bad, good, late]), { message: 'EMFILE' });
  clock.step(10);
  t.deepEqual(names(read), ['/late', '/good'], 'the interval began all the same');
  t.notThrows(() => turns.next([bad, good, late]));
  t.is(turns.failed(), 2);
});

test('an interval that is changed holds from the next one on, and nothing is read once they are stopped', t => {
  const clock = steppedClock();
  const config = { detailIntervalSeconds: 10 };
  const read: LivingInstance[] = [];
  const turns = createReadingTurns(clock, config, living => read.push(living));
  const lives = Array.from({ length: 9 }, (_, i) => life(`/${i}`));
  const run = (): void => {
    for (const one of lives) one.totals.runNs += 1;
    turns.next(lives);
  };
  turns.next(lives);
  read.length = 0;
  config.detailIntervalSeconds = 100;
  run();
  clock.step(9);
  t.is(read.length, 0);
  clock.step(81);
  t.deepEqual(names(read.splice(0)), names(lives));
  run();
  turns.stop();
  clock.step(200);
  t.is(read.length, 0);
});

test('of several that throw the first is told', t => {
  const turns = createReadingTurns(steppedClock(), { detailIntervalSeconds: 10 }, living => {
    throw new Error(living.instance.name);
  });
  t.throws(() => turns.next([life('/one'), life('/two')]), { message: '/one' });
});
