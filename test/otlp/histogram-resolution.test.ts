import test from 'ava';
import fc from 'fast-check';
import type { ExplicitHistogram, ExponentialHistogram } from '../../src/contract/telemetry.ts';
import { inResolution } from '../../src/otlp/histogram-resolution.ts';

/** As the kernel counts: bucket i ends at 2^((i+1)/4) s, from 2^-30 s on. */
const exactHistogram = fc
  .tuple(
    fc.integer({ min: -120, max: 30 }),
    fc.array(fc.nat({ max: 1e6 }), { minLength: 1, maxLength: 40 }),
  )
  .map(
    ([offset, counts]): ExponentialHistogram => ({
      kind: 'exponential',
      count: counts.reduce((a, b) => a + b, 0),
      sum: 3,
      scale: 2,
      zeroCount: 0,
      offset,
      counts,
    }),
  );

/** What is not above `bound`. */
function upTo(bound: number, { bounds, counts }: ExplicitHistogram): number {
  return counts.reduce(
    (sum, count, i) => ((bounds[i] ?? Infinity) <= bound ? sum + count : sum),
    0,
  );
}

test('each exact bucket goes whole into the explicit one that contains it', t => {
  fc.assert(
    fc.property(
      exactHistogram,
      fc.constantFrom('explicit', 'explicit-fine'),
      (exact, resolution) => {
        const explicit = inResolution(exact, resolution) as ExplicitHistogram;
        const expected = new Array<number>(explicit.bounds.length + 1).fill(0);
        for (const [i, n] of exact.counts.entries()) {
          const upper = 2 ** ((exact.offset + i + 1) / 4);
          const found = explicit.bounds.findIndex(bound => upper <= bound * (1 + 1e-12));
          const bucket = found < 0 ? explicit.bounds.length : found;
          expected[bucket] = (expected[bucket] ?? 0) + n;
        }
        t.deepEqual(explicit.counts, expected);
        t.is(explicit.count, exact.count);
      },
    ),
  );
});

test('two resolutions agree below every bound that they share', t => {
  fc.assert(
    fc.property(exactHistogram, exact => {
      const coarse = inResolution(exact, 'explicit') as ExplicitHistogram;
      const fine = inResolution(exact, 'explicit-fine') as ExplicitHistogram;
      t.is(coarse.bounds.length, 25);
      t.is(fine.bounds.length, 97);
      for (const bound of coarse.bounds) {
        t.true(fine.bounds.includes(bound));
        t.is(upTo(bound, coarse), upTo(bound, fine));
      }
    }),
  );
});
