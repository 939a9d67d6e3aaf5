import test from 'ava';
import fc from 'fast-check';
import { createSeriesStore } from '../../src/pae/series.ts';
import { resourcePoints } from './stream.ts';

const total = (used: number) => ({ used, wait: 0, throttled: 0 });

test('the rate between two samples is what was used over the time between them', t => {
  const store = createSeriesStore(10);
  t.is(store.take(resourcePoints('/a', 100, total(5))), null);
  const taken = store.take(resourcePoints('/a', 100.5, total(5.25)));
  t.is(taken?.observation.usedCores, 0.5);
});

test('late and doubled samples are counted and change nothing', t => {
  const store = createSeriesStore(10);
  store.take(resourcePoints('/a', 100, total(5)));
  store.take(resourcePoints('/a', 101, total(6)));
  t.is(store.take(resourcePoints('/a', 100.5, total(5.5))), null);
  t.is(store.take(resourcePoints('/a', 101, total(6))), null);
  t.is(store.counters().late, 2);
  t.is(store.recent('/a', 10).length, 1);
});

test('after the clock was set back by more than is kept, rates go on with the second sample', t => {
  const store = createSeriesStore(10);
  store.take(resourcePoints('/a', 10_000, total(5)));
  t.is(store.take(resourcePoints('/a', 6401, total(6))), null);
  t.is(store.counters().resets, 1);
  t.is(store.take(resourcePoints('/a', 6402, total(6.5)))?.observation.usedCores, 0.5);
  t.is(store.counters().late, 0);
});

test('after the clock was set back by less than that as well, as soon as it has done something', t => {
  const store = createSeriesStore(10);
  for (const time of [1000, 1001]) store.take(resourcePoints('/a', time, total(time - 995)));
  t.is(store.take(resourcePoints('/a', 981, total(6))), null, 'it may be late: it did nothing');
  t.is(store.take(resourcePoints('/a', 982, total(6.5))), null);
  t.is(store.take(resourcePoints('/a', 983, total(7)))?.observation.usedCores, 0.5);
  t.is(store.counters().resets, 1);
  t.is(store.counters().late, 1);
});

test('a new life begins a new series', t => {
  const store = createSeriesStore(10);
  store.take(resourcePoints('/a', 100, total(50)));
  t.is(store.take(resourcePoints('/a', 101, total(1), 100.5)), null);
  t.is(store.counters().resets, 1);
  t.is(store.take(resourcePoints('/a', 102, total(2), 100.5))?.observation.usedCores, 1);
});

test('past its bound the series that was silent longest goes, and is counted', t => {
  const store = createSeriesStore(2);
  store.take(resourcePoints('/a', 100, total(1)));
  store.take(resourcePoints('/b', 101, total(1)));
  store.take(resourcePoints('/c', 102, total(1)));
  t.deepEqual([...store.instances()], ['/b', '/c']);
  t.is(store.counters().evicted, 1);
});

test('steps add up to what was used, however the samples lie', t => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          gap: fc.double({ min: 0.05, max: 2, noNaN: true }),
          used: fc.double({ min: 0, max: 3, noNaN: true }),
        }),
        { minLength: 20, maxLength: 80 },
      ),
      samples => {
        const store = createSeriesStore(10);
        let time = 1000;
        let used = 0;
        store.take(resourcePoints('/a', time, total(used)));
        for (const sample of samples) {
          time += sample.gap;
          used += sample.used;
          store.take(resourcePoints('/a', time, total(used)));
        }
        const steps = store.steps('/a', time, 1, 5);
        t.true(steps.every(step => step.usedCores >= 0 && step.spanSeconds > 0.999));
        // Interpolated in the cumulative values: the steps together are what was used between their ends.
        const before = store.steps('/a', time - steps.length, 1, 1);
        t.true(before.length <= 1);
        const sum = steps.reduce((s, step) => s + step.usedCores, 0);
        t.true(sum <= used + 1e-6);
      },
    ),
  );
});

test('steps end with the newest sample where that is as late as its series is slow, and there are none where it is later', t => {
  for (const [spanSeconds, late, later] of [
    [1, 1.9, 2.1],
    [5, 7.4, 7.6],
  ] as const) {
    const store = createSeriesStore(10);
    for (let time = 1000; time <= 1060; time += spanSeconds)
      store.take(resourcePoints('/a', time, total(time / 2)));
    t.is(store.steps('/a', 1060 + late, 1, 48).length, 48);
    t.is(store.steps('/a', 1060 + late, 1, 48).at(-1)?.time, 1060);
    t.deepEqual(store.steps('/a', 1060 + later, 1, 48), []);
  }
});

test('a resource without its headline series is counted, not guessed', t => {
  const store = createSeriesStore(2);
  const points = resourcePoints('/a', 100, total(1));
  t.is(store.take({ ...points, points: points.points.slice(1) }), null);
  t.is(store.counters().incomplete, 1);
});

test('where the agent cannot tell throttling, rates are told of the rest', t => {
  const store = createSeriesStore(2);
  const told = [100, 101].map(time => {
    const { resource, points } = resourcePoints('/a', time, {
      used: time,
      wait: 2 * time,
      throttled: 0,
    });
    const rest = points.filter(({ metric }) => metric !== 'sculptor.cpu.throttled.time');
    return store.take({ resource, points: rest })?.observation;
  });
  t.deepEqual(told, [
    undefined,
    { time: 101, spanSeconds: 1, usedCores: 1, waitCores: 2, throttledCores: 0 },
  ]);
  t.is(store.counters().incomplete, 0);
});

test('deltas are counted, and no rate is told from them', t => {
  const store = createSeriesStore(2);
  for (const time of [100, 101]) {
    const { resource, points } = resourcePoints('/a', time, total(1));
    const deltas = points.map(point => ({ ...point, temporality: 'delta' as const }));
    t.is(store.take({ resource, points: deltas }), null);
  }
  t.is(store.counters().notCumulative, 2);
});
