import test from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { createSuspectFinder } from '../../../src/agent/instances/suspects.ts';

const life = (id: string, usedCores = 0, waitCores = 0, runNs = 1e9) =>
  ({
    instance: { id },
    totals: { runNs, waitNs: 0, throttledNs: 0 },
    window: { usedCores, waitCores, throttledCores: 0 },
  }) as unknown as LivingInstance;

function stage(living: readonly LivingInstance[]) {
  const heard = { changed: new Set<LivingInstance>(), moved: false, complete: true };
  const sweeps: boolean[] = [];
  const finder = createSuspectFinder({
    book: { living: () => living.values(), sweep: mayBeGone => void sweeps.push(mayBeGone) },
    changes: { take: () => heard, complete: () => heard.complete },
  });
  const ids = (all: readonly LivingInstance[]) => all.map(({ instance }) => instance.id);
  return {
    heard,
    sweeps,
    look: (contended: readonly LivingInstance[] = [], cpusChanged = false) => {
      const { given, byTurns } = finder.look(contended, cpusChanged);
      return { given: ids(given), byTurns: ids(byTurns) };
    },
  };
}

test('of those that ran or waited four are looked at each time, by turns, and so many of the contended', t => {
  const active = Array.from({ length: 6 }, (_, i) =>
    i % 2 === 0 ? life(`/${i}`, 0.005) : life(`/${i}`, 0.001, 0.004),
  );
  const contended = Array.from({ length: 6 }, (_, i) => life(`/c${i}`));
  const { look } = stage([...active, life('/rests', 0.004)]);
  t.deepEqual(look(contended).byTurns, ['/c0', '/c1', '/c2', '/c3', '/0', '/1', '/2', '/3']);
  t.deepEqual(look(contended).byTurns, ['/c4', '/c5', '/c0', '/c1', '/4', '/5', '/0', '/1']);
  t.deepEqual(look().byTurns, ['/2', '/3', '/4', '/5']);
});

test('of whom nobody tells whether he ran is looked at as if he had', t => {
  const { look } = stage([life('/rests'), life('/unknown', 0, 0, 0)]);
  t.deepEqual(look().byTurns, ['/unknown']);
});

test('of fewer than four each is looked at once, whoever has the turn', t => {
  const active = [life('/0', 1), life('/1', 1), life('/2', 1)];
  const { look } = stage(active);
  t.deepEqual(look().byTurns, ['/0', '/1', '/2']);
  t.deepEqual(look().byTurns, ['/1', '/2', '/0']);
});

test('after CPUs went on- or offline all are looked at twice', t => {
  const { look } = stage([life('/a'), life('/b')]);
  t.deepEqual(look().given, []);
  t.deepEqual(look([], true).given, ['/a', '/b']);
  t.deepEqual(look().given, ['/a', '/b']);
  t.deepEqual(look().given, []);
});

test('who was written to is looked at; where not all is heard the contended are, and who is gone is looked for', t => {
  const [a, b] = [life('/a'), life('/b')];
  const { look, heard, sweeps } = stage([a, b]);
  heard.changed.add(a);
  t.deepEqual(look([b]).given, ['/a']);
  heard.complete = false;
  t.deepEqual(look([b]).given, ['/a', '/b']);
  [heard.complete, heard.moved] = [true, true];
  look();
  t.deepEqual(sweeps, [false, true, true]);
});
