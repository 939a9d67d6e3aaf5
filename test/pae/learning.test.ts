import test from 'ava';
import type { Action } from '../../src/contract/action.ts';
import { createLearning } from '../../src/pae/planner/learning.ts';

function measured(predicted: number, realised: number): Action {
  const gain = {
    metric: 'm',
    without: 1,
    with: 0,
    gainRatio: 0,
    interval: [0, 1] as [number, number],
  };
  return {
    id: '11111111-1111-4111-8111-111111111111',
    recommendationId: '22222222-2222-4222-8222-222222222222',
    hostId: 'host',
    state: 'kept',
    previousState: 'observing',
    mode: 'enforce',
    at: 1,
    reason: null,
    beneficiary: null,
    mechanism: 'direct',
    mechanisms: [],
    moves: [],
    allocations: [],
    predicted: { ...gain, gainRatio: predicted, probability: 0.9 },
    realised: { ...gain, gainRatio: realised, samples: 5, neighbours: [] },
    leaseEnds: null,
  };
}

test('a kind that brings half of what was said of it is trusted by half in the end, and by others nothing changes', t => {
  const learning = createLearning();
  for (let i = 0; i < 30; i += 1)
    learning.take('weight', measured(0.8 * learning.trust('weight', 1).factor, 0.4));
  t.true(Math.abs(learning.trust('weight', 1).factor - 0.5) < 0.02);
  t.is(learning.trust('idle', 1).factor, 1);
});

test('trust is bounded, and the interval narrows with predictions that come true', t => {
  const learning = createLearning();
  const before = learning.trust('widen', 1).spread;
  for (let i = 0; i < 30; i += 1) learning.take('widen', measured(0.8, 0.8));
  t.true(learning.trust('widen', 1).spread < before);
  for (let i = 0; i < 30; i += 1) learning.take('widen', measured(0.8, -2));
  t.true(Math.abs(learning.trust('widen', 1).factor - 0.3) < 1e-9);
  for (let i = 0; i < 30; i += 1) learning.take('widen', measured(0.1, 1));
  t.true(Math.abs(learning.trust('widen', 1).factor - 1.2) < 1e-9);
});

test('one miss does not condemn a kind, and what was learned is forgotten in time', t => {
  const learning = createLearning();
  learning.take('weight', measured(0.9, -1));
  const lower = () =>
    0.94 * learning.trust('weight', 1).factor - learning.trust('weight', 1).spread;
  t.true(lower() > 0.2);
  learning.take('weight', measured(0.6, -1));
  t.true(lower() < 0.2);
  t.true(learning.trust('weight', 3000).factor > 0.99);
});
