import test from 'ava';
import { temporalityFrom } from '../../src/otlp/temporality.ts';

test('cumulative by default: values and start times as they are', t => {
  const temporal = temporalityFrom(undefined);
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 5 }, 10),
    { start: 1, value: 5 },
  );
});

test('delta takes off what was delivered, and starts where that ended', t => {
  const temporal = temporalityFrom('delta');
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 5 }, 10),
    { start: 1, value: 5 },
  );
  temporal.settle(true);
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 8 }, 20),
    { start: 10, value: 3 },
  );
});

test('delta loses nothing when an export fails: the next has it all', t => {
  const temporal = temporalityFrom('DELTA');
  temporal.shape(() => 'k', { start: 1, value: 5 }, 10);
  temporal.settle(false);
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 8 }, 20),
    { start: 1, value: 8 },
  );
});

test('delta begins anew with a new life of a series', t => {
  const temporal = temporalityFrom('delta');
  temporal.shape(() => 'k', { start: 1, value: 5 }, 10);
  temporal.settle(true);
  t.deepEqual(
    temporal.shape(() => 'k', { start: 15, value: 2 }, 20),
    { start: 15, value: 2 },
  );
});

test('delta of a histogram whose lowest bucket moved down', t => {
  const temporal = temporalityFrom('delta');
  const histogram = (offset: number, counts: number[]) => ({
    kind: 'exponential' as const,
    count: counts.reduce((a, b) => a + b, 0),
    sum: 1,
    scale: 2,
    zeroCount: 0,
    offset,
    counts,
  });
  temporal.shape(() => 'k', { start: 1, value: histogram(-10, [2, 3]) }, 10);
  temporal.settle(true);
  const { value } = temporal.shape(() => 'k', { start: 1, value: histogram(-11, [1, 2, 5]) }, 20);
  t.like(value, { count: 3, counts: [1, 0, 2], offset: -11 });
});
