import test from 'ava';
import fc from 'fast-check';
import { createPreemptors } from '../../../src/agent/cpu/preemptors.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { PairWaits } from '../../../src/agent/sources/counters.ts';

const lives = new Map(
  Array.from({ length: 90 }, (_, id) => [
    id,
    {
      instance: { id: `/${id}`, kind: 'cgroup', name: `${id}` },
      members: new Map([[id, `/${id}`]]),
    } as unknown as LivingInstance,
  ]),
);
const victim = lives.get(0) as LivingInstance;

function pairs(waits: Readonly<Record<number, number>>): PairWaits {
  return {
    forEach: take => {
      for (const [id, ns] of Object.entries(waits)) take(0, Number(id), ns);
    },
  };
}

test('the five largest are named, the rest is other, and what nobody ran in is none', t => {
  const preemptors = createPreemptors(() => 0);
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
  const preemptors = createPreemptors(() => 0);
  const named = (id: string) =>
    preemptors.of(victim, 1e9).find(each => each.preemptor === id)?.ns ?? null;
  preemptors.take(pairs({ 1: 1, 2: 20, 3: 30, 4: 40, 5: 50, 6: 60 }), lives);
  t.deepEqual([named('/1'), named('/2'), named('other')], [null, 20, 1]);
  preemptors.take(pairs({ 1: 500, 3: 100, 4: 100, 5: 100, 6: 100 }), lives);
  t.deepEqual([named('/1'), named('/2'), named('other')], [500, null, 1]);
  preemptors.take(pairs({ 2: 2000 }), lives);
  t.is(named('/2'), 2020);
});

test('attributes are the same object while it is named, and not kept beyond that', t => {
  const preemptors = createPreemptors(() => 0);
  const attributesOf = (id: string) =>
    preemptors.of(victim, 1e9).find(each => each.preemptor === id)?.attributes;
  preemptors.take(pairs({ 1: 1, 2: 20, 3: 30, 4: 40, 5: 50, 6: 60 }), lives);
  const first = attributesOf('/2');
  preemptors.take(pairs({ 2: 20 }), lives);
  t.is(attributesOf('/2'), first);
  preemptors.take(pairs({ 1: 500, 3: 100, 4: 100, 5: 100, 6: 100 }), lives);
  t.is(attributesOf('/2'), undefined);
  preemptors.take(pairs({ 2: 2000 }), lives);
  t.deepEqual(attributesOf('/2'), first);
  t.not(attributesOf('/2'), first);
});

test('who is named keeps its place until another has kept it waiting twice as long', t => {
  const preemptors = createPreemptors(() => 0);
  const named = () =>
    preemptors
      .of(victim, 1e9)
      .map(({ preemptor }) => preemptor)
      .filter(preemptor => preemptor.startsWith('/'));
  preemptors.take(pairs({ 1: 100, 2: 100, 3: 100, 4: 100, 5: 100 }), lives);
  const first = named();
  preemptors.take(pairs({ 1: 150, 2: 140, 3: 130, 4: 120, 5: 110, 6: 300 }), lives);
  t.deepEqual(named(), first, 'nor does the order change');
  preemptors.take(pairs({ 1: 150, 2: 140, 3: 130, 4: 120, 5: 10, 6: 300 }), lives);
  t.deepEqual(named(), [...first.slice(0, 4), '/6']);
});

const namedOf = (preemptors: ReturnType<typeof createPreemptors>) =>
  preemptors
    .of(victim, 1e9)
    .map(({ preemptor }) => preemptor)
    .filter(preemptor => preemptor.startsWith('/'));

test('what was long ago counts half as much with each reading: who waits on takes the place at last', t => {
  const preemptors = createPreemptors(() => 0);
  const first = { 1: 1000, 2: 1000, 3: 1000, 4: 1000, 5: 1000 };
  preemptors.take(pairs(first), lives);
  const at = Array.from({ length: 4 }, () => {
    preemptors.take(pairs({ 6: 100 }), lives);
    return namedOf(preemptors).includes('/6');
  });
  // 187.5 of late against 62.5 of each of the first.
  t.deepEqual(at, [false, false, false, true]);
});

test('of many at once twenty may come to be named', t => {
  for (const [id, isNamed] of [
    [6, true],
    [5, false],
  ] as const) {
    const preemptors = createPreemptors(() => 0);
    const many = Array.from({ length: 25 }, (_, i) => [i + 1, 1001 + i]);
    preemptors.take(pairs(Object.fromEntries(many)), lives);
    t.deepEqual(namedOf(preemptors), ['/25', '/24', '/23', '/22', '/21']);
    // More than 1021 takes a place: with half of what it had of late it is, alone it is not.
    preemptors.take(pairs({ [id]: 1000 }), lives);
    t.is(namedOf(preemptors).includes(`/${id}`), isNamed, `${id}`);
  }
});

test('of many at once those that were waited for longest come to be named, in whatever order they are read', t => {
  const preemptors = createPreemptors(() => 0);
  const named = (id: string) =>
    preemptors.of(victim, 1e9).find(each => each.preemptor === id)?.ns ?? null;
  const many = Object.fromEntries(Array.from({ length: 25 }, (_, i) => [i + 1, 125 - i]));
  preemptors.take(pairs(many), lives);
  preemptors.take(pairs({ 20: 120, 21: 120 }), lives);
  t.deepEqual([named('/20'), named('/21')], [120, null], 'the twentieth, and who came after it');
});

test('who is too small beside twenty others is not when these have rested', t => {
  const preemptors = createPreemptors(() => 0);
  const named = (id: string) =>
    preemptors.of(victim, 1e9).find(each => each.preemptor === id)?.ns ?? null;
  const many = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [i + 1, 100]));
  preemptors.take(pairs({ ...many, 30: 60 }), lives);
  preemptors.take(pairs({ 30: 60 }), lives);
  t.is(named('/30'), null);
  preemptors.take(pairs({ 30: 25 }), lives);
  t.is(named('/30'), 25);
});

test('whoever ran in a cgroup that is of no life is among the others', t => {
  const preemptors = createPreemptors(() => 0);
  preemptors.take(pairs({ 1: 10, 95: 30 }), lives);
  preemptors.take(pairs({ 95: 30 }), lives);
  t.deepEqual(
    preemptors.of(victim, 100).map(({ preemptor, ns }) => [preemptor, ns]),
    [
      ['/1', 10],
      ['other', 60],
      ['none', 30],
    ],
  );
});

test('who was named once is kept among fifty, and begins anew when it was not', t => {
  let now = 0;
  const preemptors = createPreemptors(() => now);
  const wait = (id: number, readings = 12) => {
    for (let i = 0; i < readings; i += 1) {
      now += 1;
      preemptors.take(pairs({ [id]: 1000 }), lives);
    }
    return preemptors.of(victim, 1e9).find(({ preemptor }) => preemptor === `/${id}`);
  };
  for (let id = 1; id <= 40; id += 1) wait(id);
  t.like(wait(1), { ns: 24_000, start: null });
  for (let id = 2; id <= 80; id += 1) wait(id);
  const { ns, start } = wait(1) ?? {};
  t.deepEqual([ns, start], [12_000, now - 12]);
});

test('the wait of a VM is that of all its cgroups', t => {
  const preemptors = createPreemptors(() => 0);
  const both: PairWaits = {
    forEach: take => {
      take(0, 1, 10);
      take(90, 1, 20);
    },
  };
  for (let i = 0; i < 3; i += 1) preemptors.take(both, new Map([...lives, [90, victim]]));
  t.deepEqual(
    preemptors.of(victim, 90).map(({ ns }) => ns),
    [90, 0, 0],
  );
});

test('what nobody ran in does not fall where the pairs are ahead of the totals', t => {
  const preemptors = createPreemptors(() => 0);
  const none = (waitNs: number) => preemptors.of(victim, waitNs).at(-1)?.ns;
  preemptors.take(pairs({ 1: 10 }), lives);
  t.is(none(15), 5);
  preemptors.take(pairs({ 1: 20 }), lives);
  t.is(none(20), 5);
  t.is(none(40), 10);
});

test('no series falls, whoever is named, and together they are the whole wait', t => {
  const step = fc.array(fc.record({ id: fc.integer({ min: 1, max: 89 }), ns: fc.nat(1000) }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), steps => {
      const preemptors = createPreemptors(() => 0);
      let all = 0;
      const seen = new Set<number>();
      const last = new Map<string, number>();
      let dropped = false;
      for (const changes of steps) {
        const came: Record<number, number> = {};
        for (const { id, ns } of changes) {
          came[id] = (came[id] ?? 0) + ns;
          seen.add(id);
          all += ns;
        }
        preemptors.take(pairs(came), lives);
        const told = preemptors.of(victim, all);
        dropped ||= seen.size > 50;
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

test('where neighbours come and go what was told of those that went is not told again', t => {
  let now = 0;
  const preemptors = createPreemptors(() => now);
  const last = new Map<string, { ns: number; start: number | null }>();
  let increases = 0;
  // As on a host that builds for others: each is there for ten minutes, one is there again after an hour.
  for (let step = 0; step < 60 * 150; step += 1) {
    now += 10;
    const nth = 1 + (Math.floor(step / 60) % 80);
    preemptors.take(pairs({ [nth]: 1000 }), lives);
    for (const { preemptor, ns, start } of preemptors.of(victim, 1000 * (step + 1))) {
      const before = last.get(preemptor);
      if (before && ns < before.ns) t.true((start ?? 0) >= (before.start ?? 0) + 3000, preemptor);
      const increase = ns - (before && before.start === start ? before.ns : 0);
      t.true(increase >= 0 && increase <= 1000, `${preemptor} at ${now}: ${increase}`);
      increases += increase;
      last.set(preemptor, { ns, start });
    }
  }
  t.is(increases, 1000 * 60 * 150);
});

test('another life has series of its own', t => {
  const preemptors = createPreemptors(() => 0);
  preemptors.take(pairs({ 1: 13 }), lives);
  const next = { ...victim } as LivingInstance;
  preemptors.take(pairs({ 1: 2 }), new Map([...lives, [0, next]]));
  t.is(preemptors.of(next, 2)[0]?.ns, 2);
  t.is(preemptors.of(victim, 13)[0]?.ns, 13);
});

test('a VM counts by all of its cgroups, each of which is too small to be a candidate', t => {
  const preemptors = createPreemptors(() => 0);
  const others = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [i + 1, 100]));
  preemptors.take(pairs(others), lives);
  const ofVm = Array.from({ length: 20 }, (_, i) => i + 70);
  const vm = {
    instance: { id: '/vm', kind: 'vm', name: 'vm' },
    members: new Map(ofVm.map(id => [id, `/vm/${id}`])),
  } as unknown as LivingInstance;
  const withVm = new Map([...lives, ...ofVm.map(id => [id, vm] as const)]);
  preemptors.take(pairs({ ...others, ...Object.fromEntries(ofVm.map(id => [id, 40])) }), withVm);
  const named = preemptors.of(victim, 1e9).find(({ preemptor }) => preemptor === '/vm');
  t.is(named?.ns, 800);
});
