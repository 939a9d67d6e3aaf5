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

test('contention is so many cores of wait, and such a part of run and wait', t => {
  const isContended = (usedCores: number, waitCores: number) => {
    const living = { window: { usedCores, waitCores, throttledCores: 0 } };
    const { fast, uncounted } = contended([living as unknown as LivingInstance], 20);
    t.is(uncounted, 0);
    return fast.length === 1;
  };
  t.true(isContended(0, 0.05));
  t.false(isContended(0, 0.04));
  t.true(isContended(0.9, 0.11));
  t.false(isContended(1, 0.105));
});
