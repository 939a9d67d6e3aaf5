import test from 'ava';
import fc from 'fast-check';
import { coresOf, createHeadlineSeries, waitRatios } from '../../src/sculptor/headline-series.ts';

function filled(times: readonly number[], run = 0.5, wait = 0.25) {
  const series = createHeadlineSeries();
  for (const time of times) {
    series.add('/a', 'container.cpu.time', time, time * run);
    series.add('/a', 'sculptor.runqueue.wait', time, time * wait);
  }
  return series;
}

test('samples of constant cores say the same cores at any rate, and never overlap', t => {
  const gaps = fc.array(fc.double({ min: 0.05, max: 3, noNaN: true }), {
    minLength: 5,
    maxLength: 60,
  });
  t.notThrows(() =>
    fc.assert(
      fc.property(gaps, fc.double({ min: 0.1, max: 2, noNaN: true }), (steps, minSeconds) => {
        let time = 1000;
        const times = steps.map(step => {
          time += step;
          return time;
        });
        const samples = filled(times).samples('/a', 0, 1e9, minSeconds);
        const { run, wait } = coresOf(samples);
        return (
          samples.every((each, i) => i === 0 || each.from === samples[i - 1]?.to) &&
          samples.every(each => each.to - each.from >= minSeconds - 1e-9) &&
          (samples.length === 0 || (Math.abs(run - 0.5) < 1e-6 && Math.abs(wait - 0.25) < 1e-6))
        );
      }),
    ),
  );
});

test('late points are counted and dropped, and a counter that starts anew starts the series anew', t => {
  const series = filled([1000, 1001, 1002]);
  series.add('/a', 'sculptor.runqueue.wait', 1001, 0);
  t.is(series.counters.late, 1);
  series.add('/a', 'sculptor.runqueue.wait', 1002, 1002);
  t.is(series.counters.late, 2, 'told twice');
  series.add('/a', 'sculptor.runqueue.wait', 1003, 0);
  t.is(series.counters.restarted, 1);
  t.is(series.newest('/a'), null);
  for (const [time, seconds] of [
    [1003, 501.5],
    [1004, 502],
  ] as const)
    series.add('/a', 'container.cpu.time', time, seconds);
  series.add('/a', 'sculptor.runqueue.wait', 1004, 0.125);
  t.deepEqual(series.samples('/a', 0, 1e9, 1), [{ from: 1003, to: 1004, run: 0.5, wait: 0.125 }]);
});

test('nothing is kept for longer than 120 s and a third, nor more than a thousand points', t => {
  const at = (gap: number) => Array.from({ length: 400 / gap }, (_, i) => 1 + i * gap);
  const seen = (gap: number) => {
    const series = createHeadlineSeries();
    const times = at(gap);
    for (const metric of ['container.cpu.time', 'sculptor.runqueue.wait'] as const)
      for (const time of times) series.add('/a', metric, time, time ** 2);
    const samples = series.samples('/a', 0, 1e9, 0);
    t.true(samples.every(({ from, to, wait }) => Math.abs(wait - to ** 2 + from ** 2) < 1e-6));
    return { seconds: (times.at(-1) ?? 0) - (samples[0]?.from ?? 0), points: samples.length + 1 };
  };
  const seldom = seen(0.5);
  t.true(seldom.seconds >= 119 && seldom.seconds <= 162, `${seldom.seconds} s`);
  const often = seen(0.05);
  t.true(often.points <= 1000 && often.points >= 750, `${often.points} points`);
});

test('for more instances than there may be the first is forgotten, and those that have ended when it is asked', t => {
  const series = createHeadlineSeries(10);
  for (let i = 0; i < 12; i += 1) series.add(`/i${i}`, 'container.cpu.time', 2000 + i, 1);
  const ids = (from: number) => Array.from({ length: 12 - from }, (_, i) => `/i${from + i}`);
  t.is(series.counters.instancesDropped, 2);
  t.deepEqual(series.instances(0), ids(2));
  t.deepEqual(series.instances(2010), ids(10));
  series.forget(2009);
  t.deepEqual(series.instances(0), ids(9));
});

test('run between two points is as far along as the time is, and beyond them it is not known', t => {
  const series = createHeadlineSeries();
  for (const [time, run] of [
    [10, 1],
    [20, 3],
    [24, 7],
  ] as const)
    series.add('/a', 'container.cpu.time', time, run);
  for (const time of [9, 15, 20, 23, 25])
    series.add('/a', 'sculptor.runqueue.wait', time, time / 10);
  t.deepEqual(
    series.samples('/a', 0, 100, 0).map(({ from, to, run }) => [from, to, run]),
    [
      [15, 20, 1],
      [20, 23, 3],
    ],
  );
  const within = (from: number, to: number) => series.samples('/a', from, to, 0).length;
  t.deepEqual([within(15, 20), within(15.1, 23), within(15, 19.9)], [1, 1, 0]);
  t.deepEqual(series.samples('/b', 0, 100, 0), []);
  t.deepEqual(series.newest('/a'), { time: 25, intervalSeconds: 2 });
});

test('the share of waiting is told of samples with demand alone, and cores of all of them', t => {
  const samples = [
    { from: 0, to: 10, run: 3, wait: 1 },
    { from: 10, to: 20, run: 0.005, wait: 0.005 },
    { from: 20, to: 30, run: 0, wait: 0.02 },
  ];
  t.deepEqual(waitRatios(samples), [0.25, 1]);
  t.deepEqual(coresOf(samples), { run: 3.005 / 30, wait: 1.025 / 30 });
  t.deepEqual(coresOf([]), { run: 0, wait: 0 });
});

test('after the clock was set back by less than is kept, what was counted before is not taken for what is counted now', t => {
  const series = createHeadlineSeries();
  for (const [i, time] of [1000, 1001, 1002, 981, 982].entries()) {
    series.add('/a', 'container.cpu.time', time, i);
    series.add('/a', 'sculptor.runqueue.wait', time, i);
  }
  t.is(series.counters.late, 0);
  t.deepEqual(series.newest('/a'), { time: 982, intervalSeconds: 1 });
  t.is(series.samples('/a', 983, 1e9, 0).length, 0);
});

test('after the clock was set back by more than is kept, the series begins anew', t => {
  const series = createHeadlineSeries();
  for (const [i, time] of [10_000, 10_001, 6402, 6403].entries()) {
    series.add('/a', 'container.cpu.time', time, i);
    series.add('/a', 'sculptor.runqueue.wait', time, i);
  }
  t.is(series.counters.restarted, 2);
  t.is(series.counters.late, 0);
  t.deepEqual(series.newest('/a'), { time: 6403, intervalSeconds: 1 });
});

test('after the clock was set back by more than is kept, one that rested since begins anew too', t => {
  const series = createHeadlineSeries();
  for (const time of [10_000, 10_001, 6402, 6403])
    series.add('/a', 'sculptor.runqueue.wait', time, 5);
  t.deepEqual(series.counters, { late: 0, restarted: 1, instancesDropped: 0 });
  t.deepEqual(series.newest('/a'), { time: 6403, intervalSeconds: 1 });
});
