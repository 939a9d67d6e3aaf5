import { readFileSync } from 'node:fs';
import test from 'ava';
import { forKernel, startSchedScript } from '../../../src/agent/bpftrace/sched-script.ts';
import { latenciesOf, word } from '../../../src/agent/probes/sched-layout.ts';
import { lossesOf, stagedScript } from '../support/staged-script.ts';

const losses = lossesOf({ lost_events: 3 });

/** A script of which the test is the bpftrace. */
function scene(nodeOfCpu: readonly number[] = []) {
  const { context, clock, runs, print } = stagedScript({
    losses,
    cgroupV1: true,
    roots: { proc: '/proc' },
  });
  const starting = startSchedScript({ ...context, detailSeconds: 5, nodeOfCpu });
  const begin = async () => {
    runs.at(-1)?.attached();
    return starting;
  };
  return { clock, runs, starting, begin, print };
}

test('totals are what was printed last; they go on when the script is begun again; a cgroup that is gone is told no more while it stands still', async t => {
  const { clock, runs, begin, print } = scene();
  const script = await begin();
  t.deepEqual(runs[0]?.parameters, ['1']);
  print('run', { 1: 7, 7: 100 });
  print('wait', { 7: 40 });
  print('throttled', { 7: 9 });
  t.deepEqual(
    [...script.readTotals()],
    [
      [1, { runNs: 7, waitNs: 0, throttledNs: 0 }],
      [7, { runNs: 100, waitNs: 40, throttledNs: 9 }],
    ],
  );
  t.is(script.trouble(), null);
  runs[0]?.ended({ attached: true, why: 'it was killed' });
  t.deepEqual(script.trouble(), { code: 'BPFTRACE_FAILED', why: 'it was killed' });
  clock.step(1);
  runs.at(-1)?.attached();
  print('run', { 7: 5 });
  t.deepEqual(script.readTotals().get(7), { runNs: 105, waitNs: 40, throttledNs: 9 });
  script.forget([7]);
  t.false(script.readTotals().has(7));
  print('run', { 7: 6 });
  t.is(script.readTotals().get(7)?.runNs, 1);
  t.is(script.counters().lost['lost_events'], 6, 'of both runs');
  t.is(script.counters().events, null);
});

test('details are the counters of the libbpf probe', async t => {
  const { begin, print } = scene();
  const script = await begin();
  print('run', { 7: 100 });
  print('wait', { 7: 40 });
  print('latency', { '7,0': 1, '7,159': 2 });
  print('mode', { '7,0': 60, '7,1': 30 });
  // Ended, was preempted, moved, to another node; fell asleep in I/O and else, and woke.
  print('did', { '7,0': 1, '7,1': 2, '7,3': 3, '7,4': 1, '7,8': 10, '7,11': 20, '7,12': 10 });
  print('waited_for', { 1: 33 });
  const counters = script.readDetails().instances.get(7) ?? new Float64Array();
  t.is(word(counters, 'runNs'), 100);
  t.is(word(counters, 'waitNs'), 40);
  t.is(word(counters, 'userNs'), 60);
  t.is(word(counters, 'kernelNs'), 30);
  t.is(word(counters, 'voluntarySwitches'), 31);
  t.is(word(counters, 'involuntarySwitches'), 2);
  t.is(word(counters, 'wakeups'), 10);
  t.is(word(counters, 'migrations'), 3);
  t.is(word(counters, 'nodeMigrations'), 1);
  const { latencyCount, latencySumNs, slots } = latenciesOf(counters);
  t.deepEqual([latencyCount, latencySumNs, slots[0], slots[159]], [3, 40, 1, 2]);
  t.deepEqual([...script.detailsOf([7, 8]).keys()], [7]);
  t.deepEqual(script.readWaitByCpu([0, 1]), [0, 33]);
});

test('pairs and tasks are those since they were taken last; who a task is, is read where it is chosen', async t => {
  const { begin, print } = scene();
  const script = await begin();
  print('pairs', { '7,8': 5, '7,7': 1 });
  print('pairs', { '7,8': 2 });
  print('busy', { [`7,${process.pid}`]: 5, '7,4194305': 1 });
  const { pairs, tasks } = script.readDetails();
  const all: number[][] = [];
  pairs.forEach((...pair) => void all.push(pair));
  t.deepEqual(all, [
    [7, 8, 7],
    [7, 7, 1],
  ]);
  script.takePairs().forEach(() => void t.fail('they were taken'));
  t.deepEqual(script.readDetails().tasks, []);
  const [own, none] = tasks;
  t.like(own, { tid: process.pid, grownNs: 5 });
  t.like(own?.totals(), { cgroupId: 7, tgid: process.pid, startTicks: own?.startTicks });
  t.true((own?.totals()?.runNs ?? 0) > 1e7, 'what this process ran');
  t.is(none?.totals(), null);
  t.deepEqual(none?.startTicks, Number.NaN);
});

test('it knows the node of each CPU', async t => {
  const { runs, begin } = scene([0, 0, 1, 1]);
  await begin();
  t.regex(
    runs[0]?.program ?? '',
    /@node\[\(int32\)0\] = 0; @node\[\(int32\)2\] = 1; @node\[\(int32\)3\] = 1;/,
  );
});

test('of throttled time it asks by the account that the kernel keeps', t => {
  const script = readFileSync(new URL('../../../bpf/sched.bt', import.meta.url), 'utf8');
  const fields = ['throttled_clock_pelt_time', 'throttled_clock_self_time', 'orig_ax'] as const;
  t.is(forKernel(script, new Set(fields)), script);
  const other = forKernel(script, new Set(fields.slice(0, 2)));
  t.true(script.includes('$regs->'));
  t.false(/\$regs|\$reason = 2/.test(other), 'the registers of another machine are not looked at');
  const older = forKernel(script, new Set(fields.slice(0, 1)));
  t.is(older.match(/= \$queue->throttled_clock_pelt_time;/g)?.length, 5);
  t.false(older.includes('throttled_clock_self'));
  t.false(forKernel(script, new Set()).includes('throttled_clock'));
});

test('a bpftrace that does not attach is an error that says why', async t => {
  const refused = scene();
  refused.runs[0]?.ended({ attached: false, why: 'no tracepoint' });
  await t.throwsAsync(refused.starting, {
    code: 'BPFTRACE_FAILED',
    message: 'bpf/sched.bt: no tracepoint',
  });
});
