import test from 'ava';
import { outlierEvent } from '../../../src/agent/cpu/outlier-source.ts';
import { outlierSchema } from '../../../src/contract/outlier.ts';

const party = (name: string, tid: number) => ({ name, tid, tgid: tid, instance: `/${name}` });
const told = outlierSchema.parse({
  hostId: 'host',
  at: 1,
  seconds: 0.012,
  throttledSeconds: 0,
  cpu: 1,
  task: { ...party('spin', 7), startTicks: 0 },
  began: 'preempted',
  waker: null,
  preemptor: party('hog', 8),
  stack: [],
});
const bodyOf = (changed: Partial<typeof told>) => outlierEvent({ ...told, ...changed }).body;

test('what a person reads says how a wait began, who had the CPU, and how long a quota held the task back besides', t => {
  t.is(
    bodyOf({}),
    'spin (7, /spin) waited 12.0 ms for CPU 1; preempted; it ran after hog (8, /hog)',
  );
  t.is(
    bodyOf({ began: 'throttled', throttledSeconds: 0.0801 }),
    'spin (7, /spin) waited 12.0 ms for CPU 1, throttled for 80.1 ms besides; its quota was used up; it ran after hog (8, /hog)',
  );
  t.is(
    bodyOf({ began: 'woken', throttledSeconds: 0.0801, preemptor: null }),
    'spin (7, /spin) waited 12.0 ms for CPU 1, throttled for 80.1 ms besides; woken by an interrupt; the CPU was idle',
  );
});
