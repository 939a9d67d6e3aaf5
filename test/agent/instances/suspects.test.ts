import test from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { createSuspectFinder } from '../../../src/agent/instances/suspects.ts';

const life = (name: string, usedCores = 0): LivingInstance =>
  ({ instance: { name }, window: { usedCores, waitCores: 0 } }) as unknown as LivingInstance;

const names = (lives: readonly LivingInstance[]) => lives.map(({ instance }) => instance.name);

function stage(living: readonly LivingInstance[]) {
  const heard = { changed: [] as LivingInstance[], moved: false, complete: true };
  const sweeps: boolean[] = [];
  const finder = createSuspectFinder({
    book: { living: () => living.values(), sweep: mayBeGone => void sweeps.push(mayBeGone) },
    changes: {
      take: () => {
        const { changed, moved } = heard;
        Object.assign(heard, { changed: [], moved: false });
        return { changed: new Set(changed), moved };
      },
      complete: () => heard.complete,
    },
  });
  return { finder, heard, sweeps };
}

test('who was written to is given something else; all may be after CPUs went, in two looks', t => {
  const [a, b] = [life('a'), life('b')];
  const { finder, heard, sweeps } = stage([a, b]);
  const given = (cpusChanged = false) => names(finder.look([], cpusChanged).given);
  heard.changed = [b];
  t.deepEqual([given(), given()], [['b'], []]);
  t.deepEqual([given(true), given(), given()], [['a', 'b'], ['a', 'b'], []]);
  heard.moved = true;
  given();
  t.deepEqual(sweeps, [false, false, false, false, false, true]);
});

test('where not all is seen the contended may be given something else, and any may be gone', t => {
  const [a, b] = [life('a'), life('b')];
  const { finder, heard, sweeps } = stage([a, b]);
  heard.complete = false;
  t.deepEqual(names(finder.look([b], false).given), ['b']);
  t.deepEqual(sweeps, [true]);
});

test('four of the contended and four of those that run have their turn at a time', t => {
  const running = Array.from({ length: 6 }, (_, i) => life(`r${i}`, 0.005));
  const hot = Array.from({ length: 5 }, (_, i) => life(`h${i}`, 0.004));
  const { finder } = stage([...running, ...hot]);
  const turn = () => names(finder.look(hot, false).byTurns).join(' ');
  t.is(turn(), 'h0 h1 h2 h3 r0 r1 r2 r3');
  t.is(turn(), 'h4 h0 h1 h2 r4 r5 r0 r1');
});
