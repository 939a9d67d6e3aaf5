import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { type RunqueueProbe, startRunqueueProbe } from '../../src/agent/probes/runqueue.ts';
import { latenciesOf, word } from '../../src/agent/probes/sched-layout.ts';
import { ConfigError } from '../../src/contract/errors.ts';
import { type BpfObject, loadNative, type Native } from '../../src/linux/native.ts';
import { makeBtfLess } from '../support/btf-less.ts';
import { needs } from '../support/needs.ts';
import { quantileOctave } from '../support/octaves.ts';
import { endChild, eventually } from '../support/scene.ts';
import {
  cores,
  cpuRoot,
  endAll,
  makeBox,
  near,
  read,
  readingsWithoutSwitch,
  readTogether,
  schedstat,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../support/sched-scene.ts';
import { startTold } from '../support/told-agent.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
const unifiedRoot = existsSync('/sys/fs/cgroup/cgroup.controllers')
  ? '/sys/fs/cgroup'
  : '/sys/fs/cgroup/unified';
const unifiedTest = existsSync(`${unifiedRoot}/cgroup.procs`)
  ? needs('root', 'btf', 'addon')
  : test.skip;
test.afterEach.always(endAll);

/** Objects of BPF have BTF, too. */
const objectPath = (name: string) =>
  new URL(`../../build/bpf/${name}.bpf.o`, import.meta.url).pathname;

/** The kernel's own BTF, taken as a file. */
const usual = {
  native: loadNative(),
  btf: '/sys/kernel/btf/vmlinux',
  cgroupV1: true,
  maxInstances: 1024,
  nodeOfCpu: [],
};

function start(
  t: ExecutionContext,
  options: Partial<Parameters<typeof startRunqueueProbe>[0]> = {},
): RunqueueProbe {
  const probe = startRunqueueProbe({ ...usual, ...options });
  t.teardown(probe.stop);
  return probe;
}

kernelTest(
  'beside the probe by tp_btf: run, wait, switches, wake-ups and latencies within 2 %, p50 and p99 within one bucket',
  async t => {
    t.timeout(60_000);
    const [theirs, ours] = [startProbe(), start(t)];
    // The load begins and ends while both look: no moment of it is one's alone.
    const [box, other] = [makeBox('usual'), makeBox('usual')];
    const always = await startPinned(other, 0, ...spin);
    const periodic = ['latency', '--period-us', '1000', '--burn-us', '300'];
    const often = await startPinned(box, 0, workload, ...periodic);
    await pause(5000);
    await endChild(often);
    await endChild(always);
    for (const { id } of [box, other]) {
      const counters = [ours, theirs].map(
        probe => probe.detailsOf([id]).get(id) ?? new Float64Array(),
      );
      for (const field of [
        'runNs',
        'waitNs',
        'voluntarySwitches',
        'involuntarySwitches',
        'wakeups',
        'latencyCount',
        'latencySumNs',
      ] as const) {
        const [got = 0, wanted = 0] = counters.map(each => word(each, field));
        t.log(field, got, wanted);
        near(t, got, wanted, Math.max(0.02 * wanted, 2), `${field} of ${id}`);
      }
      const [got, wanted] = counters.map(each => Array.from(latenciesOf(each).slots));
      for (const ratio of [0.5, 0.99]) {
        const slots = [got, wanted].map(each => quantileOctave(each ?? [], ratio));
        t.log(ratio, ...slots);
        near(t, slots[0] ?? -1, slots[1] ?? 0, 1, `p${ratio * 100}`);
      }
    }
    const often1 = theirs.detailsOf([box.id]).get(box.id) ?? new Float64Array();
    t.true(word(often1, 'latencyCount') > 3000, `${word(often1, 'latencyCount')} latencies`);
    t.log(ours.counters(), theirs.counters());
  },
);

kernelTest('a spinner is charged at each read, though it never switches', async t => {
  const probe = start(t);
  const box = makeBox();
  const child = await startPinned(box, 0, ...spin);
  const { run, wait } = await readingsWithoutSwitch(probe, box, child);
  near(t, run, 1, 0.05, 'run');
  near(t, wait, 0, 0.01, 'wait');
  t.log(run, wait);
});

kernelTest(
  'a starved task is charged while it waits, and its latency only when it runs',
  async t => {
    const probe = start(t);
    const [winner, loser] = [makeBox('most'), makeBox('fewest')];
    await startPinned(winner, 0, ...spin);
    const child = loser.spawn('taskset', '-c', '0', ...spin);
    const { run, wait } = await eventually('the loser waits', 10, async () => {
      const before = probe.readTotals().get(loser.id);
      if (!before || before.waitNs < 1e6) return null;
      return readingsWithoutSwitch(probe, loser, child, 'waiting');
    });
    near(t, wait, 1, 0.05, 'wait');
    near(t, run, 0, 0.01, 'run');
    t.log(run, wait);
  },
);

unifiedTest('on cgroup v2 the id is the one of the unified hierarchy', async t => {
  const probe = start(t, { cgroupV1: false });
  const box = makeBox('usual', unifiedRoot);
  const child = await startPinned(box, 0, ...spin);
  await pause(200);
  const [from, before] = readTogether(probe, box, () => schedstat(child));
  await pause(1500);
  const [to, after] = readTogether(probe, box, () => schedstat(child));
  const { run, wait, seconds } = cores(from, to);
  near(t, run, (after.runNs - before.runNs) / 1e9 / seconds, 0.015, 'run');
  near(t, run + wait, 1, 0.01, 'run + wait');
  t.log(run, wait);
});

kernelTest('threads that have ended leave nothing behind', async t => {
  const loaded: BpfObject[] = [];
  const native: Native = {
    ...usual.native,
    loadObject: (path, options) => {
      const object = usual.native.loadObject(path, options);
      loaded.push(object);
      return object;
    },
  };
  start(t, { native });
  const tids = (): Set<number> => {
    const { keys, count } = loaded[0]?.readMap('intervals') ?? t.fail();
    return new Set(Array.from({ length: count }, (_, nth) => keys.readUInt32LE(nth * 4)));
  };
  const box = makeBox();
  const child = box.spawn(workload, 'threads', '--count', '500');
  const threads = await eventually('500 threads sleep', 20, () => {
    const all = box.read('tasks').trim().split('\n').map(Number);
    const known = tids();
    return all.length >= 500 && all.every(tid => known.has(tid)) ? all : null;
  });
  await endChild(child);
  // One leaves /proc before its last switch.
  const left = await eventually('nothing is left of them', 5, () => {
    const known = tids();
    const left = threads.filter(tid => known.has(tid) || existsSync(`/proc/${tid}`));
    return left.length === 0 ? left : null;
  });
  t.deepEqual(left, []);
});

kernelTest('tasks past those that can be followed are counted as lost', async t => {
  const probe = start(t, { maxTasks: 8 });
  const box = makeBox();
  box.spawn(workload, 'threads', '--count', '50');
  await pause(500);
  const { lost, events } = probe.counters();
  t.log(lost, events);
  t.true(lost.task_storage > 40, `${lost.task_storage}`);
});

kernelTest('what does not fit into the map of instances is counted as lost', async t => {
  const probe = start(t, { maxInstances: 1 });
  const box = makeBox();
  await startPinned(box, 0, ...spin);
  await pause(100);
  t.true(probe.readTotals().size <= 1);
  t.true(probe.counters().lost.instance_map_full > 0);
});

kernelTest(
  'a cgroup that was forgotten is gone, and a probe that was stopped reads no more',
  async t => {
    const probe = start(t);
    const box = makeBox();
    const child = await startPinned(box, 0, ...spin);
    await eventually('it has run', 5, () => (probe.readTotals().has(box.id) ? true : null));
    await endChild(child);
    t.true(read(probe, box).totals.runNs > 0);
    probe.forget([box.id]);
    t.false(probe.readTotals().has(box.id));
    probe.stop();
    t.throws(() => probe.readTotals(), { message: /closed/ });
  },
);

kernelTest('a file that is not the BTF of this kernel is refused, and why is said', t => {
  for (const [btf, why] of [
    // Of a machine that does not exist, with the fields that are read and no others; and without most of them.
    [objectPath('runqueue'), /the BTF of another kernel: by it/],
    [objectPath('empty'), /the BTF of another kernel: it lacks/],
    [objectPath('none'), /not there$/],
    ['/etc/passwd', /not the BTF of a kernel/],
  ] as const) {
    const error = t.throws(() => startRunqueueProbe({ ...usual, btf }), {
      instanceOf: ConfigError,
      code: 'CONFIG_INVALID',
      message: why,
    });
    t.true(error?.message.startsWith(`agent.btf: ${btf}: `), error?.message);
  }
});

kernelTest(
  'an agent on a kernel without BTF tells what it knows by a file, and nothing in the place of what it does not',
  async t => {
    const { roots, remove } = makeBtfLess();
    t.teardown(remove);
    const told = await startTold({ btf: usual.btf }, roots);
    t.teardown(told.stop);
    const box = makeBox();
    const instance = box.folder.slice(cpuRoot.length);
    await startPinned(box, 0, workload, 'latency', '--period-us', '1000', '--burn-us', '300');
    const metrics = await eventually('details are told', 20, () => {
      const all = new Set(told.allPointsOf(instance).map(({ metric }) => metric));
      return all.has('sculptor.runqueue.latency') ? [...all].sort() : null;
    });
    const bySched = metrics.filter(metric => /\.(cpu|offcpu|runqueue|task)\./.test(metric));
    t.deepEqual(bySched, [
      'container.cpu.time',
      'sculptor.cpu.context_switches',
      'sculptor.cpu.migrations',
      'sculptor.cpu.node_migrations',
      'sculptor.cpu.wakeups',
      'sculptor.runqueue.latency',
      'sculptor.runqueue.wait',
    ]);
    const { sched } = told.agent.status().sources;
    t.is(sched, 'running');
  },
);
