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
function seriesOf(
  instances: Record<string, Cores>,
  interval = 1,
  end = 80,
  series = createHeadlineSeries(),
) {
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
  given: {
    neighbours?: string[];
    controls?: string[];
    limitRatio?: number;
    windowSeconds?: number;
  } = {},
) {
  const watch = startWatch({
    ...{ series, beneficiary: '/a', applied: 40, verify, policy },
    controls: given.controls ?? [],
    neighbours: (given.neighbours ?? []).map(instance => ({
      ...{ instance, limitRatio: given.limitRatio ?? 0.02 },
      windowSeconds: given.windowSeconds ?? 0,
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

const unmoved: Cores = () => ({ run: 0.3, wait: 0.3 });

test('a neighbour with a window is judged when that is over, and then over the last of it alone', t => {
  const lost = (since: number) =>
    seriesOf(
      {
        '/a': unmoved,
        '/n': time => (time < since ? { run: 0.8, wait: 0.2 } : { run: 0.6, wait: 0.4 }),
      },
      1,
      120,
    );
  const given = { neighbours: ['/n'], limitRatio: 0.15, windowSeconds: 20 };
  const atOnce = judge(lost(40), 100, given);
  t.deepEqual([atOnce.is, atOnce.at], ['worse', 61]);
  t.is(judge(lost(80), 80, given).is, 'undecided');
  const late = judge(lost(80), 100, given);
  t.is(late.is, 'worse', 'of 20 s within all of which it lost, and 39 before in which it did not');
  t.true(late.at > 90, `${late.at}`);
});

test('the more neighbours there are the more one has to show before it is said to lose', t => {
  const random = noise(7);
  const calm = Array.from({ length: 50 }, (_, i) => `/calm${i}`);
  const series = seriesOf(
    {
      '/a': unmoved,
      '/n': time => {
        const wait = (time < 40 ? 0.2 : 0.3) + 0.1 * random();
        return { run: 1 - wait, wait };
      },
      ...Object.fromEntries(calm.map(id => [id, unmoved])),
    },
    1,
    120,
  );
  const [alone, among] = [['/n'], ['/n', ...calm]].map(neighbours =>
    judge(series, 120, { neighbours }),
  );
  t.deepEqual([alone?.is, among?.is], ['worse', 'worse']);
  t.true((among?.at ?? 0) > (alone?.at ?? 0), `${alone?.at} ${among?.at}`);
});

test('to look more often than samples come shows no less', t => {
  const random = noise(11);
  const series = seriesOf({ '/a': () => ({ run: 0.5, wait: 0.25 + 0.2 * random() }) });
  const [seldom, often] = [1, 0.1].map(step => {
    const watch = startWatch({
      ...{ series, beneficiary: '/a', applied: 40, verify, policy },
      ...{ neighbours: [], controls: [] },
    });
    for (let now = 41; now < 60; now += step) watch.judge(now);
    return watch.judge(60);
  });
  t.deepEqual(often, seldom);
});

test('a neighbour that waits no more than a hundredth of a core more has lost nothing', t => {
  const of = (cores: number) => (time: number) =>
    time < 40 ? { run: cores, wait: 0 } : { run: cores / 2, wait: cores / 2 };
  const asBefore: Cores = time => (time < 40 ? { run: 0.3, wait: 0.3 } : { run: 0.1, wait: 0.305 });
  const series = seriesOf({
    ...{ '/a': unmoved, '/calm': of(0.018), '/less': asBefore, '/busy': of(0.03) },
  });
  t.is(judge(series, 70, { neighbours: ['/calm'] }).is, 'undecided');
  t.is(judge(series, 70, { neighbours: ['/less'] }).is, 'undecided', 'it asks for less');
  t.is(judge(series, 70, { neighbours: ['/busy'] }).is, 'worse');
});

test('of two neighbours each is measured against what it was itself', t => {
  const steady = (wait: number) => () => ({ run: 1 - wait, wait });
  const series = seriesOf({ '/a': unmoved, '/m': steady(0.1), '/n': steady(0.5) });
  t.is(judge(series, 70, { neighbours: ['/m', '/n'] }).is, 'undecided');
});

test('of the controls the middle one says what the host went through, each against what it was itself', t => {
  const helped: Cores = time => (time < 40 ? { run: 0.2, wait: 0.3 } : { run: 0.3, wait: 0.1 });
  const worse: Cores = time => (time < 40 ? { run: 0.5, wait: 0 } : { run: 0.1, wait: 0.4 });
  const steady = (wait: number) => () => ({ run: 1 - wait, wait });
  const series = seriesOf({ '/a': helped, '/c': steady(0.1), '/d': steady(0.6), '/e': worse });
  const { realised } = judge(series, 70, { controls: ['/c', '/d', '/e'] });
  t.is(realised?.without.toFixed(3), '0.600');
  t.is(realised?.with.toFixed(3), '0.250');
  const none = judge(series, 70, { controls: ['/e'] }).realised;
  t.is(none?.with, 0, 'nobody waits less than not at all');
});

test('what the whole host went through is no loss of a neighbour', t => {
  const lost: Cores = time => (time < 40 ? { run: 0.8, wait: 0.2 } : { run: 0.6, wait: 0.4 });
  const series = seriesOf({ '/a': lost, '/n': lost, '/c': lost });
  t.is(judge(series, 70, { neighbours: ['/n'] }).is, 'worse');
  t.is(judge(series, 70, { neighbours: ['/n'], controls: ['/c'] }).is, 'undecided');
});

test('what a neighbour lost is a part of what it was served, where it was served anything', t => {
  const half: Cores = time => (time < 40 ? { run: 0.5, wait: 0.5 } : { run: 0.4, wait: 0.6 });
  const nothing: Cores = time => (time < 40 ? { run: 0, wait: 0.3 } : { run: 0.1, wait: 0.3 });
  const series = seriesOf({ '/a': unmoved, '/half': half, '/nothing': nothing });
  t.is(judge(series, 70, { neighbours: ['/half'], limitRatio: 0.15 }).is, 'worse');
  t.is(judge(series, 70, { neighbours: ['/half'], limitRatio: 0.25 }).is, 'undecided');
  t.deepEqual(judge(series, 70, { neighbours: ['/nothing'] }).realised?.neighbours, []);
});

test('the baseline is the present spell alone, and of a neighbour that is told once a second the seconds around it', t => {
  const spells: Cores = time => {
    if (time > 12 && time < 20) return { run: 0.3, wait: 0.3 };
    return time > 37 && time < 40 ? { run: 0.1, wait: 0.4 } : { run: 0.3, wait: 0 };
  };
  const present = judge(seriesOf({ '/a': spells }), 70).realised;
  t.is(present?.without.toFixed(3), '0.800');

  const brief: Cores = time => ({ run: 0.2, wait: time > 39.5 ? 0.3 : 0 });
  const lost: Cores = time => (time < 40 ? { run: 0.8, wait: 0.2 } : { run: 0.6, wait: 0.4 });
  const series = seriesOf({ '/n': lost }, 1, 80, seriesOf({ '/a': brief }, 0.2));
  t.is(judge(series, 70, { neighbours: ['/n'] }).is, 'worse');
});

test('the second in which an action settles is no part of what it brought', t => {
  const series = seriesOf({
    '/a': time => {
      if (time < 40) return { run: 0.2, wait: 0.3 };
      return time < 41 ? { run: 0, wait: 1 } : { run: 0.3, wait: 0.01 };
    },
  });
  const { is, at, realised } = judge(series, 70);
  t.deepEqual([is, at, realised?.samples], ['improved', 46, 5]);
});

test('what is less than the policy asks for is no improvement, be it beyond chance', t => {
  const series = seriesOf({
    '/a': time => (time < 40 ? { run: 0.5, wait: 0.5 } : { run: 0.55, wait: 0.45 }),
  });
  const { is, realised } = judge(series, 70);
  t.is(is, 'undecided');
  t.true((realised?.interval[0] ?? 0) > 0);
});

test('what is told of a gain is a part of what was waited, and its interval too', t => {
  const series = seriesOf({
    '/a': time => (time < 40 ? { run: 0.2, wait: 0.2 } : { run: 0.3, wait: 0.1 }),
  });
  const { realised } = judge(series, 70);
  t.is(realised?.gainRatio.toFixed(3), '0.500');
  const [lower = 0, upper = 0] = realised?.interval ?? [];
  t.is(((lower + upper) / 2).toFixed(3), '0.500');
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
