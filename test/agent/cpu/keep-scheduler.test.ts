import { statSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { keepScheduler } from '../../../src/agent/cpu/keep-scheduler.ts';
import type { Scheduler, SchedulerOptions } from '../../../src/agent/cpu/scheduler.ts';
import { emptyTotals } from '../../../src/agent/instances/add-change.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { ConfigError, KernelInterfaceError, ProbeError } from '../../../src/contract/errors.ts';
import { schedMetrics } from '../../../src/contract/metrics/sched.ts';
import { makeTree } from '../../linux/tree.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const choice = { hottest: () => [], ran: () => undefined };

function stage(t: ExecutionContext) {
  const tree = makeTree(t, { 'cgroup/': '' });
  const clock = steppedClock(1000);
  const said: string[] = [];
  const options = {
    config: { driver: 'libbpf', maxInstances: 16, detailIntervalSeconds: 10 },
    layout: { version: 1, cpu: tree.cgroup, cpuset: null },
    roots: tree,
    clock,
    say: (level: string, text: string) => said.push(`${level}: ${text}`),
  } as unknown as SchedulerOptions;
  return {
    tree,
    clock,
    said,
    options,
    /** A cgroup with these tasks; its id. */
    make: (path: string, tasks: string) => {
      tree.write({ [`cgroup${path}/tasks`]: tasks });
      return statSync(`${tree.cgroup}${path}`).ino;
    },
  };
}

/** One that starts, and what is asked of it. */
function startable() {
  const calls: string[] = [];
  const one: Scheduler = {
    probe: {
      readTotals: () => new Map([[7, { ...emptyTotals(), runNs: 1e9 }]]),
      forget: ids => calls.push(`forget ${ids}`),
      counters: () => ({ events: 3, recovered: 0, lost: { recursion: 0 }, entries: 1 }),
    },
    source: () => ({
      name: 'sched',
      read: () => calls.push('read'),
      samples: ({ start }) => [{ metric: 'sculptor.cpu.wakeups', start, value: 5 }],
      host: () => [{ metric: 'sculptor.cpu.runqueue.wait', value: 1 }],
      lost: () => ({}),
      forget: () => calls.push('source forgets'),
      stop: () => undefined,
    }),
    runByCpu: () => new Map(),
    maskedThreads: () => new Set([9]),
    untold: new Set(),
    stop: async () => void calls.push('stopped'),
  };
  return { one, calls };
}

function living(start: number): LivingInstance {
  return {
    instance: { id: '/a', kind: 'cgroup', name: 'a' },
    path: '/a',
    members: new Map(),
    start,
    totals: emptyTotals(),
    window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
  };
}

const settled = () => new Promise(resolve => setImmediate(resolve));

test('where the kernel refuses the scheduler, the cgroups that have tasks are found, and it is told as not there', async t => {
  const { tree, clock, said, options, make } = stage(t);
  const [first, idle] = [make('/a', '12'), make('/idle', '')];
  const why = 'sched.bpf.o: refused by its verifier';
  const kept = await keepScheduler(options, async () => {
    throw new ProbeError('PROBE_LOAD', `${why}\n1: (85) call bpf_probe_read_kernel`);
  });
  const source = kept.source(choice);
  t.deepEqual(source.trouble?.(), { code: 'PROBE_LOAD', why: `PROBE_LOAD: ${why}` });
  t.is(said.length, 1);
  t.regex(
    said[0] ?? '',
    /^warn: agent: without the source "sched" \(.*\): PROBE_LOAD: sched\.bpf\.o: refused/,
  );
  t.deepEqual([...kept.untold].sort(), Object.keys(schedMetrics).sort() as never);
  t.deepEqual([...kept.probe.readTotals()], [[first, emptyTotals()]]);
  t.is(kept.probe.counters().events, null);
  t.deepEqual([source.samples(living(1000)), source.host(), source.lost()], [[], [], {}]);
  t.is(kept.maskedThreads(), null);

  const second = make('/b', '13');
  t.deepEqual([...kept.probe.readTotals().keys()], [first], 'it looks once in so long');
  clock.step(10);
  t.deepEqual([...kept.probe.readTotals().keys()].sort(), [first, second].sort());
  tree.write({ 'cgroup/a/tasks': '', 'cgroup/idle/tasks': '14' });
  clock.step(10);
  t.deepEqual(
    [...kept.probe.readTotals().keys()].sort(),
    [first, second, idle].sort(),
    'who was there is there while its cgroup is',
  );
  tree.remove('cgroup/b');
  kept.probe.forget([second]);
  clock.step(10);
  t.deepEqual([...kept.probe.readTotals().keys()].sort(), [first, idle].sort());
  await kept.stop();
});

test('it is tried again, ever more seldom, and what starts is told from then on', async t => {
  const { clock, said, options } = stage(t);
  const { one, calls } = startable();
  let refusals = 3;
  const tries: number[] = [];
  const kept = await keepScheduler(options, async () => {
    tries.push(clock.monotonicSeconds());
    refusals -= 1;
    if (refusals >= 0) throw new KernelInterfaceError('KERNEL_MISSING', 'no BTF');
    return one;
  });
  const source = kept.source(choice);
  for (let minutes = 0; minutes < 8; minutes += 1) {
    clock.step(60);
    await settled();
  }
  t.deepEqual(tries, [0, 60, 180, 420], 'and no more, once it runs');
  t.is(said.length, 2, 'the same reason is said once');
  t.regex(said[1] ?? '', /^info: agent: the source "sched" .* runs now$/);
  t.is(source.trouble?.(), null);
  t.is(kept.since(), 1420);
  t.is(kept.untold.size, 0);
  t.deepEqual([...kept.probe.readTotals().keys()], [7]);
  t.is(kept.probe.counters().events, 3);
  t.deepEqual(kept.maskedThreads(), new Set([9]));
  t.is(source.host().length, 1);
  t.deepEqual(
    source.samples(living(1000)).map(({ start }) => start),
    [1420],
    'no series begins before its counting does',
  );
  t.deepEqual(
    kept.headline(living(1500)).map(({ start }) => start),
    [1500, 1500, 1500],
  );
  t.deepEqual(new Set(kept.headline(living(1000)).map(({ start }) => start)), new Set([1420]));
  source.read([]);
  kept.probe.forget([7]);
  source.forget(new Map());
  await kept.stop();
  t.deepEqual(calls, ['read', 'forget 7', 'source forgets', 'stopped']);
});

test('one that starts while the agent stops is stopped with it, and none is tried afterwards', async t => {
  const { clock, options } = stage(t);
  const { one, calls } = startable();
  let started: (value: Scheduler) => void = () => undefined;
  let tries = 0;
  const kept = await keepScheduler(options, async () => {
    tries += 1;
    if (tries === 1) throw new ProbeError('BPFTRACE_FAILED', 'bpftrace is not there');
    return new Promise(resolve => {
      started = resolve;
    });
  });
  clock.step(60);
  const stopping = kept.stop();
  started(one);
  await stopping;
  t.deepEqual(calls, ['stopped']);
  clock.step(10_000);
  t.is(tries, 2);
});

test('what is wrong in the configuration, or in the program, is not put up with', async t => {
  const { options, said } = stage(t);
  const wrong = new ConfigError('CONFIG_INVALID', 'agent.btf: not the BTF of a kernel');
  for (const error of [wrong, new TypeError('undefined is not a function')])
    t.is(
      await t.throwsAsync(
        keepScheduler(options, async () => {
          throw error;
        }),
      ),
      error,
    );
  t.deepEqual(said, []);
});
