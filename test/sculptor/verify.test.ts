import test from 'ava';
import fc from 'fast-check';
import { policySchema } from '../../src/contract/policy.ts';
import { createHeadlineSeries } from '../../src/sculptor/headline-series.ts';
import {
  alphaAtLook,
  studentDifference,
  studentQuantile,
} from '../../src/sculptor/sequential-test.ts';
import { startWatch } from '../../src/sculptor/verify.ts';

const verify = { settleSeconds: 1, minSamples: 5, maxSeconds: 30, alpha: 0.05 };
const policy = policySchema.parse({});
type Cores = (time: number) => { run: number; wait: number };

/** Points of an instance every `interval` seconds from 0 to `end`; the action is applied at 40. */
function seriesOf(instances: Record<string, Cores>, interval = 1, end = 80) {
  const series = createHeadlineSeries();
  for (const [id, cores] of Object.entries(instances)) {
    let [run, wait] = [0, 0];
    for (let i = 1; i <= end / interval; i += 1) {
      const time = i * interval;
      const now = cores(time - interval / 2);
      run += now.run * interval;
      wait += now.wait * interval;
      series.add(id, 'container.cpu.time', time, run);
      series.add(id, 'sculptor.runqueue.wait', time, wait);
    }
  }
  return series;
}

function judge(
  series: ReturnType<typeof seriesOf>,
  until: number,
  given: { neighbours?: string[]; controls?: string[]; limitRatio?: number } = {},
) {
  const watch = startWatch({
    ...{ series, beneficiary: '/a', applied: 40, verify, policy },
    controls: given.controls ?? [],
    neighbours: (given.neighbours ?? []).map(instance => ({
      ...{ instance, limitRatio: given.limitRatio ?? 0.02, windowSeconds: 0 },
    })),
  });
  for (let now = 40.5; now <= until; now += 0.5) {
    const verdict = watch.judge(now);
    if (verdict.is !== 'undecided') return { ...verdict, at: now };
  }
  return { ...watch.judge(until), at: until };
}

/** Seeded noise in [-1, 1] (mulberry32): the same in every run. */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * 2 - 1;
  };
}

test('a clear improvement is told a few samples after the action, at any rate of the series', t => {
  for (const interval of [0.2, 0.5, 1]) {
    const series = seriesOf(
      { '/a': time => (time < 40 ? { run: 0.2, wait: 0.3 } : { run: 0.3, wait: 0.01 }) },
      interval,
    );
    const verdict = judge(series, 70);
    t.is(verdict.is, 'improved');
    t.true(verdict.at <= 50, `${interval}: ${verdict.at}`);
  }
});

test('contention that began a second before the action is the baseline, not the calm before it', t => {
  const series = seriesOf(
    {
      '/a': time => (time > 39 && time < 40.1 ? { run: 0.2, wait: 0.4 } : { run: 0.3, wait: 0.02 }),
    },
    0.2,
  );
  const verdict = judge(series, 70);
  t.is(verdict.is, 'improved');
  t.true((verdict.realised?.without ?? 0) > 0.5);
});

test('noise alone is neither an improvement nor worse in 95 % of runs, each looked at 60 times', t => {
  let decided = 0;
  for (let seed = 1; seed <= 500; seed += 1) {
    const random = noise(seed * 7919);
    const series = seriesOf({ '/a': () => ({ run: 0.5, wait: 0.25 + 0.2 * random() }) });
    if (judge(series, 70).is !== 'undecided') decided += 1;
  }
  t.true(decided <= 25, `${decided} of 500`);
});

test('a neighbour that loses more than its limit is found, and one within it is not', t => {
  const helped: Cores = time => (time < 40 ? { run: 0.2, wait: 0.3 } : { run: 0.3, wait: 0.01 });
  const lost: Cores = time => (time < 40 ? { run: 0.8, wait: 0.2 } : { run: 0.6, wait: 0.4 });
  const series = seriesOf({ '/a': helped, '/n': lost });
  t.is(judge(series, 70, { neighbours: ['/n'] }).is, 'worse');
  const kept = judge(series, 70, { neighbours: ['/n'], limitRatio: 0.5 });
  t.is(kept.is, 'improved');
  t.true(Math.abs((kept.realised?.neighbours[0]?.degradationRatio ?? 0) - 0.25) < 0.01);
});

test('what the whole host went through is no gain: untouched controls went through it too', t => {
  const calmer: Cores = time => (time < 40 ? { run: 0.3, wait: 0.3 } : { run: 0.3, wait: 0.1 });
  const series = seriesOf({ '/a': calmer, '/c': calmer });
  t.is(judge(series, 70).is, 'improved');
  t.is(judge(series, 70, { controls: ['/c'] }).is, 'undecided');
});

test('a beneficiary that stopped gives no verdict', t => {
  const series = seriesOf({
    '/a': time => (time < 40 ? { run: 0.2, wait: 0.3 } : { run: 0, wait: 0 }),
  });
  t.is(judge(series, 70).is, 'undecided');
});

test("Student's quantiles are those of the tables", t => {
  const table = [
    [0.975, 1, 12.706],
    [0.975, 4, 2.776],
    [0.995, 10, 3.169],
    [0.95, 30, 1.697],
    [0.9995, 8, 5.041],
  ] as const;
  for (const [p, df, value] of table) t.true(Math.abs(studentQuantile(p, df) - value) < 0.001);
});

test('the looks together never spend more than alpha', t => {
  const spent = Array.from({ length: 10_000 }, (_, i) => alphaAtLook(0.05, i + 1));
  t.true(spent.reduce((sum, each) => sum + each, 0) <= 0.05);
});

test('an interval holds the difference of the means and is symmetric around it', t => {
  const values = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), {
    minLength: 2,
    maxLength: 30,
  });
  t.notThrows(() =>
    fc.assert(
      fc.property(values, values, (before, after) => {
        const answer = studentDifference(before, after, 0.05);
        return (
          answer !== null &&
          answer.lower <= answer.difference &&
          answer.upper >= answer.difference &&
          Math.abs(answer.upper + answer.lower - 2 * answer.difference) < 1e-6
        );
      }),
    ),
  );
});
