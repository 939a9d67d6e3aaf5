import test from 'ava';
import fc from 'fast-check';
import type { PairWait } from '../../src/agent/counters.ts';
import type { LivingInstance } from '../../src/agent/instances.ts';
import { createPreemptors } from '../../src/agent/preemptors.ts';

const lives = new Map(
  Array.from({ length: 90 }, (_, id) => [
    id,
    { instance: { id: `/${id}`, kind: 'cgroup', name: `${id}` } } as LivingInstance,
  ]),
);
const victim = lives.get(0) as LivingInstance;

function pairs(waits: Readonly<Record<number, number>>): PairWait[] {
  return Object.entries(waits).map(([id, ns]) => ({ waiter: 0, preemptor: Number(id), ns }));
}

test('the five largest are named, the rest is other, and what nobody ran in is none', t => {
  const preemptors = createPreemptors();
  preemptors.take(pairs({ 1: 10, 2: 20, 3: 30, 4: 40, 5: 50, 6: 60, 7: 70 }), lives);
  t.deepEqual(
    preemptors.of(victim, 300).map(({ preemptor, ns }) => [preemptor, ns]),
    [
      ['/7', 70],
      ['/6', 60],
      ['/5', 50],
      ['/4', 40],
      ['/3', 30],
      ['other', 30],
      ['none', 20],
    ],
  );
});

test('who takes the place of another counts from then on, and is named again where it was', t => {
  const preemptors = createPreemptors();
  const named = (id: string) =>
    preemptors.of(victim, 1e9).find(each => each.preemptor === id)?.ns ?? null;
  preemptors.take(pairs({ 1: 1, 2: 20, 3: 30, 4: 40, 5: 50, 6: 60 }), lives);
  t.deepEqual([named('/1'), named('/2'), named('other')], [null, 20, 1]);
  preemptors.take(pairs({ 1: 501, 2: 20, 3: 130, 4: 140, 5: 150, 6: 160 }), lives);
  t.deepEqual([named('/1'), named('/2'), named('other')], [500, null, 1]);
  preemptors.take(pairs({ 1: 501, 2: 2020, 3: 130, 4: 140, 5: 150, 6: 160 }), lives);
  t.is(named('/2'), 2020);
});

test('no series falls, whoever is named, and together they are the whole wait', t => {
  const step = fc.array(fc.record({ id: fc.integer({ min: 1, max: 89 }), ns: fc.nat(1000) }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), steps => {
      const preemptors = createPreemptors();
      const totals: Record<number, number> = {};
      const last = new Map<string, number>();
      let dropped = false;
      for (const changes of steps) {
        for (const { id, ns } of changes) totals[id] = (totals[id] ?? 0) + ns;
        const all = Object.values(totals).reduce((a, b) => a + b, 0);
        preemptors.take(pairs(totals), lives);
        const told = preemptors.of(victim, all);
        dropped ||= Object.keys(totals).length > 50;
        for (const { preemptor, ns } of told) {
          if (!dropped && ns < (last.get(preemptor) ?? 0)) return false;
          last.set(preemptor, ns);
        }
        if (told.some(({ preemptor, ns }) => preemptor === 'none' && ns !== 0)) return false;
      }
      return true;
    }),
    { seed: 5 },
  );
  t.pass();
});

test('a pair that was forgotten begins at zero, and another life has its own', t => {
  const preemptors = createPreemptors();
  preemptors.take(pairs({ 1: 10 }), lives);
  preemptors.forget(new Set([1]));
  preemptors.take(pairs({ 1: 3 }), lives);
  t.is(preemptors.of(victim, 13)[0]?.ns, 13);
  const next = { ...victim } as LivingInstance;
  preemptors.take(pairs({ 1: 5 }), new Map([...lives, [0, next]]));
  t.is(preemptors.of(next, 2)[0]?.ns, 2);
  t.is(preemptors.of(victim, 13)[0]?.ns, 13);
});
