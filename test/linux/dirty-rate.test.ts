import test from 'ava';
import { parseDirtyRate } from '../../src/linux/dirty-rate.ts';

const about = { 'sample-pages': 512, mode: 'page-sampling', 'start-time': 607_266, 'calc-time': 1 };

test('a rate is in MiB/s, and of the measurement that began at its start time', t => {
  t.deepEqual(parseDirtyRate({ status: 'measured', 'dirty-rate': 108, ...about }), {
    status: 'measured',
    startSeconds: 607_266,
    bytesPerSecond: 108 * 1024 * 1024,
  });
});

test('without a result there is no rate', t => {
  const startSeconds = about['start-time'];
  t.deepEqual(parseDirtyRate({ status: 'measuring', ...about }), {
    ...{ status: 'measuring', startSeconds },
  });
  // As QEMU 5.2 says it.
  t.deepEqual(parseDirtyRate({ status: 'unstarted', 'dirty-rate': -1, ...about }), {
    ...{ status: 'unstarted', startSeconds },
  });
});

const isRefused = test.macro({
  exec: (t, answer: unknown, message: RegExp) => {
    t.throws(() => parseDirtyRate(answer), { code: 'QMP_UNAVAILABLE', message });
  },
  title: title => `no answer to query-dirty-rate: ${title}`,
});
test('nothing', isRefused, undefined, /answered something else/);
test('another status', isRefused, { status: 'idle', ...about }, /status/);
test('no rate', isRefused, { status: 'measured', ...about }, /dirty-rate/);
test(
  'a rate of nothing',
  isRefused,
  { status: 'measured', 'dirty-rate': -1, ...about },
  /dirty-rate/,
);
test(
  'a rate that is none',
  isRefused,
  { status: 'measured', 'dirty-rate': 1.5, ...about },
  /dirty-rate/,
);
