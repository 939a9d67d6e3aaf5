import { randomUUID } from 'node:crypto';
import type { Move, Recommendation } from '../../../src/contract/recommendation.ts';
import { instance } from './cgroup-lab.ts';

/** A valid recommendation of now; what a test is about it overrides. */
export function recommend(
  now: number,
  beneficiary: string,
  moves: Move[],
  change: Partial<Recommendation> = {},
): Recommendation {
  return {
    id: randomUUID(),
    created: now,
    expires: now + 30,
    leaseSeconds: 60,
    hostId: 'host-1',
    beneficiary: instance(beneficiary),
    mechanism: 'direct',
    moves,
    predicted: {
      metric: 'sculptor.runqueue.wait.ratio',
      without: 0.5,
      with: 0.05,
      gainRatio: 0.9,
      interval: [0.7, 0.95],
      probability: 0.95,
    },
    cost: [],
    evidence: {
      summary: 'it waits',
      class: { is: 'latency-critical', source: 'declared' },
      demandCores: { q50: 0.3, q90: 0.35, q95: 0.4 },
      supplyCores: 0.2,
      observed: { usedCores: 0.2, waitCores: 0.3, throttledCores: 0 },
      contenders: [],
      alternatives: [],
    },
    model: { name: 'test', version: '1', sha256: '0'.repeat(64) },
    ...change,
  };
}
