import test from 'ava';
import { contended } from '../../../src/agent/instances/contended.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';

test('of 25 contended instances the 20 worst are fast, and 5 are counted', t => {
  const living = Array.from({ length: 30 }, (_, i) => ({
    instance: { id: `/${i}`, kind: 'cgroup', name: `${i}` },
    window: { usedCores: 0.5, waitCores: i < 5 ? 0.04 : i / 10, throttledCores: 0 },
  })) as unknown as LivingInstance[];
  const { fast, uncounted } = contended(living, 20);
  t.is(fast.length, 20);
  t.is(uncounted, 5);
  t.is(fast[0]?.instance.id, '/29');
});

test('who waits hardly at all, or hardly for what it gets, is not contended', t => {
  const living = [
    [0.05, 0.04],
    [0.4, 0.05],
    [2, 0.1],
  ].map(([usedCores, waitCores]) => ({ window: { usedCores, waitCores, throttledCores: 0 } }));
  const { fast, uncounted } = contended(living as unknown as LivingInstance[], 20);
  t.deepEqual(
    fast.map(({ window }) => window.usedCores),
    [0.4],
  );
  t.is(uncounted, 0);
});
