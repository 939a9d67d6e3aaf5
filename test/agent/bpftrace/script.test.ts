import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import { createMapSums } from '../../../src/agent/bpftrace/map-sums.ts';
import { startCountingScript } from '../../../src/agent/bpftrace/script.ts';
import { lossesOf, stagedScript } from '../support/staged-script.ts';

const losses = lossesOf({ lost_events: 3 });

const scene = (sys = '/') => stagedScript({ losses, cgroupV1: true, roots: { sys } });

const file = 'bpf/sched.bt';
const maps = ['run', 'wait'];

test('sums of a script go on over its runs, and what was dropped begins at 0 when it grows', t => {
  const sums = createMapSums(['bytes', 'slots']);
  const print = (name: string, ...entries: [string | null, number][]) =>
    sums.take({ type: 'map', name, entries });
  print('bytes', ['7,1', 100], ['8,1', 5]);
  print('slots', ['7,1,40', 2], ['8,1,40', 1], ['77,1,40', 9]);
  print('strange', ['7', 1]);
  t.deepEqual(
    [...sums.of('bytes')],
    [
      ['7,1', 100],
      ['8,1', 5],
    ],
  );
  sums.begin();
  t.is(sums.of('bytes').get('7,1'), 100);
  print('bytes', ['7,1', 20]);
  t.is(sums.of('bytes').get('7,1'), 120);
  sums.drop(['7,1', '9,9']);
  t.deepEqual([...sums.of('bytes').keys()], ['8,1']);
  t.deepEqual([...sums.of('slots').keys()], ['8,1,40', '77,1,40']);
  t.deepEqual(sums.held(), [
    { keys: 2, dropped: 1 },
    { keys: 3, dropped: 1 },
  ]);
  print('bytes', ['7,1', 20]);
  t.false(sums.of('bytes').has('7,1'));
  print('bytes', ['7,1', 23]);
  t.is(sums.of('bytes').get('7,1'), 3);
  sums.begin();
  print('slots', ['7,1,40', 1]);
  t.is(sums.of('bytes').get('7,1'), 3);
  t.is(sums.of('slots').get('7,1,40'), 1);
  print('slots', [null, 4]);
  t.is(sums.of('slots').get(''), 4);
});

test('a sum of 0 is dropped as others are; maps of a script as a whole keep what they have', t => {
  const sums = createMapSums(['bytes', 'lost'], ['bytes']);
  const print = (name: string, ...entries: [string, number][]) =>
    sums.take({ type: 'map', name, entries });
  print('bytes', ['7', 0]);
  print('lost', ['7', 4]);
  t.is(sums.of('bytes').get('7'), 0);
  sums.drop(['7']);
  t.false(sums.of('bytes').has('7'));
  t.is(sums.of('lost').get('7'), 4);
  sums.begin();
  t.is(sums.held()[0]?.keys, 0);
  print('bytes', ['7', 2]);
  t.is(sums.of('bytes').get('7'), 2);
});

test('a script is told as not running until it counts, prints its maps, and is begun again when it ends', async t => {
  const { runs, said, context, clock, print } = scene();
  const script = startCountingScript(context, { file, maps, tracepoints: [] });
  t.deepEqual(script.trouble(), { code: 'starting', why: 'it is starting' });
  t.regex(runs[0]?.program ?? '', /interval:s:1 \{ print\(@run\); print\(@wait\); \}/);
  runs[0]?.attached();
  t.is(await script.attached, null);
  t.is(script.trouble(), null);
  print('run', { 7: 5 });
  runs[0]?.ended({ attached: true, why: 'it was killed' });
  t.deepEqual(said, [`agent: ${file} ended, and is begun again: it was killed`]);
  t.is(script.trouble()?.why, 'it was killed');
  clock.step(1);
  print('run', { 7: 1 });
  t.is(script.sums('run').get('7'), 6);
  t.is(script.losses().lost_events, 6);
});

test('a script that does not attach says why', async t => {
  const { runs, context } = scene();
  const script = startCountingScript(context, { file, maps, tracepoints: [] });
  runs[0]?.ended({ attached: false, why: 'no such probe' });
  t.is(await script.attached, 'no such probe');
});

test('a script whose maps are crowded by what is gone is begun again, and says so', t => {
  const { runs, said, context, print } = scene();
  const script = startCountingScript(context, { file, maps, tracepoints: [] });
  const keys = Array.from({ length: 32_769 }, (_, i) => `${i}`);
  print(
    'run',
    keys.map((key): [string, number] => [key, 1]),
  );
  script.drop(keys.slice(1));
  t.is(runs.length, 1);
  script.drop(keys);
  t.is(runs.length, 2);
  t.deepEqual(said, [`agent: ${file} is begun again, since it cannot let go of what is gone`]);
  t.is(script.sums('run').size, 0);
  // Nearly full, where fewer are gone: the living need what room there is.
  const many = Array.from({ length: 58_000 }, (_, i) => `${i}`);
  print(
    'wait',
    many.map((key): [string, number] => [key, 1]),
  );
  script.drop(many.slice(0, 4000));
  t.is(runs.length, 2);
  script.drop(many.slice(0, 4100));
  t.is(runs.length, 3);
  t.is(script.sums('wait').size, 53_900);
});

test('a tracepoint that this kernel does not have is named, where tracefs shows which it has', t => {
  const sys = mkdtempSync(`${tmpdir()}/sculptor-script-`);
  t.teardown(() => rmSync(sys, { recursive: true }));
  const { context, runs } = scene(sys);
  const tracepoints = ['sock:sock_send_length', 'sched:sched_switch'];
  startCountingScript(context, { file, maps, tracepoints });
  t.is(runs.length, 1);
  mkdirSync(`${sys}/kernel/tracing/events/sched/sched_switch`, { recursive: true });
  t.throws(() => startCountingScript(context, { file, maps, tracepoints }), {
    code: 'KERNEL_MISSING',
    message: 'this kernel has no tracepoint sock:sock_send_length',
  });
  t.is(runs.length, 1);
});
