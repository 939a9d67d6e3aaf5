import test from 'ava';
import { explainPreference, seriesKey, temporalityFrom } from '../../src/otlp/temporality.ts';

test('cumulative by default: values and start times as they are', t => {
  const temporal = temporalityFrom(undefined);
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 5 }, 10),
    { start: 1, value: 5 },
  );
});

test('the preference for delta is heard in either of its names, in any case', t => {
  for (const name of ['delta', 'Delta', 'lowmemory', 'LowMemory'])
    t.is(temporalityFrom(name).temporality, 'delta', name);
  for (const name of [undefined, '', 'cumulative', 'other'])
    t.is(temporalityFrom(name).temporality, 'cumulative', name);
});

test('delta takes off what was delivered, and starts where that ended', t => {
  const temporal = temporalityFrom('delta');
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 5 }, 10),
    { start: 1, value: 5 },
  );
  temporal.deliver(temporal.take());
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 8 }, 20),
    { start: 10, value: 3 },
  );
});

test('delta loses nothing when an export fails: the next has it all', t => {
  const temporal = temporalityFrom('DELTA');
  temporal.shape(() => 'k', { start: 1, value: 5 }, 10);
  temporal.take();
  t.deepEqual(
    temporal.shape(() => 'k', { start: 1, value: 8 }, 20),
    { start: 1, value: 8 },
  );
});

test('delta begins anew with a new life of a series', t => {
  const temporal = temporalityFrom('delta');
  temporal.shape(() => 'k', { start: 1, value: 5 }, 10);
  temporal.deliver(temporal.take());
  t.deepEqual(
    temporal.shape(() => 'k', { start: 15, value: 2 }, 20),
    { start: 15, value: 2 },
  );
});

test('delta of a histogram, of its zeros too, whose lowest bucket moved down', t => {
  const temporal = temporalityFrom('delta');
  const histogram = (offset: number, counts: number[], sum: number, zeroCount: number) => ({
    kind: 'exponential' as const,
    count: counts.reduce((a, b) => a + b, zeroCount),
    sum,
    scale: 2,
    zeroCount,
    offset,
    counts,
  });
  temporal.shape(() => 'k', { start: 1, value: histogram(-10, [2, 3], 1.5, 4) }, 10);
  temporal.deliver(temporal.take());
  const { value } = temporal.shape(
    () => 'k',
    { start: 1, value: histogram(-11, [1, 2, 5], 2, 6) },
    20,
  );
  t.like(value, { count: 5, sum: 0.5, zeroCount: 2, counts: [1, 0, 2], offset: -11 });
});

test('delta of a histogram with bounds of its own', t => {
  const temporal = temporalityFrom('delta');
  const tell = (counts: number[], sum: number) => {
    const count = counts.reduce((a, b) => a + b, 0);
    const value = { kind: 'explicit' as const, bounds: [1, 2], count, sum, counts };
    return temporal.shape(() => 'k', { start: 1, value }, 10).value;
  };
  tell([1, 2, 0], 3);
  temporal.deliver(temporal.take());
  t.deepEqual(tell([1, 4, 3], 14), {
    ...{ kind: 'explicit', bounds: [1, 2], count: 5, sum: 11, counts: [0, 2, 3] },
  });
});

test('delta: a series made anew at the very time of the last export is told whole, and one that began then is not', t => {
  const temporal = temporalityFrom('delta');
  const tell = (start: number, value: number, now: number) => {
    const told = temporal.shape(() => 'k', { start, value }, now);
    temporal.deliver(temporal.take());
    return told;
  };
  tell(1, 2, 10);
  t.deepEqual(tell(10, 0.1, 20), { start: 10, value: 0.1 });
  t.deepEqual(tell(10, 0.3, 30), { start: 20, value: 0.3 - 0.1 });
  const host = temporalityFrom('delta');
  host.shape(() => 'h', { start: 10, value: 0 }, 10);
  host.deliver(host.take());
  t.deepEqual(
    host.shape(() => 'h', { start: 10, value: 3 }, 20),
    { start: 10, value: 3 },
  );
});

test('delta: what arrived of an export is taken off the next, and what did not is in it again', t => {
  const temporal = temporalityFrom('delta');
  const tell = (key: string, value: number) =>
    temporal.shape(() => key, { start: 1, value }, 2).value;
  tell('arrives', 5);
  const arrived = temporal.take();
  tell('is lost', 5);
  temporal.take();
  temporal.deliver(arrived);
  t.deepEqual([tell('arrives', 6), tell('is lost', 6)], [1, 6]);
});

test('delta: of a task that was told lately nobody asks whether it lives, since /proc may hide it', t => {
  const temporal = temporalityFrom('delta');
  const key = seriesKey('', 'sculptor.task.cpu.time', '7@100');
  const tell = (value: number, now: number) =>
    temporal.shape(() => key, { start: 1, value }, now).value;
  tell(5, 10);
  temporal.deliver(temporal.take());
  temporal.keepTasks(() => t.fail('asked') as never, 10);
  t.is(tell(8, 20), 3, 'not delivered, but told');
  temporal.keepTasks(() => t.fail('asked') as never, 20);
  t.is(tell(9, 30), 4);
  temporal.keepTasks(() => true, 31);
  t.is(tell(9, 40), 4);
  temporal.keepTasks(() => false, 41);
  t.is(tell(9, 50), 9);
});

test('a preference that OpenTelemetry does not know is told, with what it may have been; one that is empty is none', t => {
  for (const known of [undefined, '', 'cumulative', 'Delta', 'LOWMEMORY'])
    t.is(explainPreference(known), null, known);
  t.regex(explainPreference('detla') ?? '', /got "detla".*\(perhaps delta\).*are cumulative$/);
  t.regex(explainPreference('none') ?? '', /got "none", wanted cumulative, delta, lowmemory\./);
});
