import test from 'ava';
import { createFarewells } from '../../../src/agent/instances/farewells.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';

/** No two are alike, whatever they are called. */
let lives = 0;
const life = (id: string): LivingInstance => {
  lives += 1;
  return { instance: { id }, start: lives } as unknown as LivingInstance;
};

function stage() {
  const done: LivingInstance[] = [];
  return { done, ...createFarewells(living => done.push(living)) };
}

test('the last totals are told until an export has carried them, of two lives under one id one after the other', t => {
  const { add, take, waiting, done } = stage();
  const [first, other, second] = [life('/a'), life('/b'), life('/a')];
  add([first, other, second]);
  t.deepEqual(take(true), [first, other], 'what arrived before has nothing of them');
  t.deepEqual(take(false), [first, other]);
  t.deepEqual(done, []);
  t.deepEqual(take(true), [second]);
  t.deepEqual(done, [first, other]);
  t.deepEqual(waiting(), [second]);
  t.deepEqual(take(true), []);
  t.deepEqual(done, [first, other, second]);
});

test('after ten exports that failed one goes without, and the next under its id has ten of its own', t => {
  const { add, take, done } = stage();
  const [first, second] = [life('/a'), life('/a')];
  add([first, second]);
  for (const [one, before] of [
    [first, []],
    [second, [first]],
  ] as const) {
    for (let i = 0; i < 10; i += 1) t.deepEqual(take(false), [one]);
    t.deepEqual(done, before);
  }
  t.deepEqual(take(false), []);
  t.deepEqual(done, [first, second]);
});

test('of more than a thousand that wait the oldest go without', t => {
  const { add, waiting, done } = stage();
  const all = Array.from({ length: 1001 }, (_, i) => life(`/${i}`));
  add(all.slice(0, 2));
  add(all.slice(2));
  t.deepEqual(done, all.slice(0, 1));
  t.deepEqual(waiting(), all.slice(1));
});
