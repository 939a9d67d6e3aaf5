import test from 'ava';
import fc from 'fast-check';
import { coresOf, createHeadlineSeries } from '../../src/sculptor/headline-series.ts';

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
  series.add('/a', 'sculptor.runqueue.wait', 1003, 0);
  t.is(series.counters.restarted, 1);
  t.is(series.newest('/a'), null);
});

test('nothing is kept for longer than 120 s and a bit, nor for more instances than allowed', t => {
  const series = createHeadlineSeries(10);
  for (let time = 1; time < 2000; time += 0.2)
    series.add('/a', 'sculptor.runqueue.wait', time, time);
  t.true(series.samples('/a', 0, 1e9, 0).length === 0);
  for (let i = 0; i < 50; i += 1) series.add(`/i${i}`, 'container.cpu.time', 2000, 1);
  t.true(series.instances(0).length <= 10);
  t.is(series.counters.instancesDropped, 41);
  series.forget(3000);
  t.deepEqual(series.instances(0), []);
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
