import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { latenciesOf, type SchedTotals, word } from '../../src/agent/probes/sched-layout.ts';
import { makeBurst } from '../support/burst.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import {
  becomes,
  cores,
  cpuRoot,
  endAll,
  makeBox,
  near,
  read,
  readAll,
  readDetails,
  readTogether,
  schedstat,
  sharedProbe,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../support/sched-scene.ts';

const unifiedRoot = existsSync('/sys/fs/cgroup/cgroup.controllers')
  ? '/sys/fs/cgroup'
  : '/sys/fs/cgroup/unified';
const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
const unifiedTest = existsSync(`${unifiedRoot}/cgroup.procs`)
  ? needs('root', 'btf', 'addon')
  : test.skip;
test.afterEach.always(endAll);

kernelTest('no total falls and no CPU is charged twice in 100 quick reads with churn', async t => {
  const probe = sharedProbe();
  const [churn, spinners] = [makeBox(), makeBox('usual')];
  const cpus = navigator.hardwareConcurrency;
  for (let cpu = 0; cpu < cpus; cpu += 1) await startPinned(spinners, cpu, ...spin);
  churn.spawn('sh', '-c', 'while :; do (:); /bin/true; done');
  const sum = (all: Map<number, SchedTotals>) =>
    [...all.values()].reduce((ns, { runNs }) => ns + runNs, 0);
  const first = readAll(probe);
  let last = first.all;
  let details = probe.readDetails().instances;
  for (let i = 0; i < 100; i += 1) {
    await pause(i % 10);
    const next = probe.readTotals();
    for (const [id, before] of last) {
      const after = next.get(id);
      t.true(after !== undefined && neverFell(before, after), `cgroup ${id}, read ${i}`);
    }
    last = next;
    const after = probe.readDetails().instances;
    for (const [id, before] of details) {
      const fell = before.findIndex((count, i) => count > (after.get(id)?.[i] ?? 0));
      t.is(fell, -1, `cgroup ${id}, read ${i}: the word that fell`);
    }
    details = after;
  }
  const end = readAll(probe);
  const used = (sum(end.all) - sum(first.all)) / 1e9 / (end.at - first.at);
  // Each CPU always has something to run: all of its time is somebody's, once.
  near(t, used, cpus, 0.02 * cpus, 'cores in use');
  // Switches that this kernel does not show are no fault of the probe's, and two creators of one storage may meet.
  const { instance_map_full, instance_memory, recursion } = probe.counters().lost;
  t.deepEqual(
    { instance_map_full, instance_memory, recursion },
    { instance_map_full: 0, instance_memory: 0, recursion: 0 },
  );
});

function neverFell(before: SchedTotals, after: SchedTotals): boolean {
  return (
    after.runNs >= before.runNs &&
    after.waitNs >= before.waitNs &&
    after.throttledNs >= before.throttledNs
  );
}

kernelTest('the tasks of a cgroup add up to its totals, to the nanosecond', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const children = [1, 2, 3, 4].map(() => box.spawn(...spin));
  const known = new Map<number, { runNs: number; waitNs: number }>();
  const stopped = async () => {
    for (const child of children) child.kill('SIGSTOP');
    await eventually('all have stopped', 5, () => (children.every(isStopped) ? true : null));
    const { totals } = read(probe, box);
    for (const task of probe.readDetails().tasks) known.set(task.tid, task.totals());
    const tasks = children.map(child => known.get(child.pid ?? 0) ?? { runNs: 0, waitNs: 0 });
    return {
      run: [totals.runNs, tasks.reduce((ns, { runNs }) => ns + runNs, 0)] as const,
      wait: [totals.waitNs, tasks.reduce((ns, { waitNs }) => ns + waitNs, 0)] as const,
    };
  };
  await Promise.all(children.map(child => becomes(child, workload)));
  const before = await stopped();
  for (const child of children) child.kill('SIGCONT');
  await pause(500);
  const after = await stopped();
  t.true(after.run[0] > before.run[0] + 1e8);
  t.is(after.run[1] - before.run[1], after.run[0] - before.run[0]);
  t.is(after.wait[1] - before.wait[1], after.wait[0] - before.wait[0]);
});

function isStopped(child: ChildProcess): boolean {
  return /\) T /.test(readFileSync(`/proc/${child.pid}/stat`, 'latin1'));
}

kernelTest(
  'what a task has grown by is what it did since it was told last, however long ago',
  async t => {
    const probe = sharedProbe();
    const box = makeBox();
    const child = await startPinned(box, 0, ...spin);
    const told = () => probe.readDetails().tasks.find(({ tid }) => tid === child.pid);
    await pause(300);
    const first = told();
    child.kill('SIGSTOP');
    await pause(50);
    told();
    t.is(told(), undefined, 'it rests');
    child.kill('SIGCONT');
    await pause(50);
    const last = told();
    const grown = (last?.totals().runNs ?? 0) - (first?.totals().runNs ?? 0);
    t.true(
      (last?.grownNs ?? 0) >= 4e7 && (last?.grownNs ?? 0) <= grown,
      `${last?.grownNs} ${grown}`,
    );
    t.true((first?.grownNs ?? 0) >= 2e8);
  },
);

kernelTest('waits by CPU are those of all instances, and lie where they were waited', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const cpus = Array.from({ length: navigator.hardwareConcurrency }, (_, cpu) => cpu);
  const last = cpus.length - 1;
  for (let i = 0; i < 3; i += 1) await startPinned(box, last, ...spin);
  const take = () => {
    const waits = [...probe.readTotals().values()].map(({ waitNs }) => waitNs);
    const all = waits.reduce((sum, ns) => sum + ns, 0);
    return { all, box: read(probe, box).totals.waitNs, byCpu: probe.readWaitByCpu(cpus) };
  };
  const before = take();
  await pause(1000);
  const after = take();
  const grown = after.byCpu.map((ns, cpu) => ns - (before.byCpu[cpu] ?? 0));
  const sum = grown.reduce((total, ns) => total + ns, 0);
  // Readings of all, of the box and of the CPUs are not of one instant.
  near(t, sum / 1e9, (after.all - before.all) / 1e9, 0.05, 'seconds waited');
  const ofBox = after.box - before.box;
  t.true(ofBox > 1.5e9, `two of three always wait: ${ofBox} ns`);
  t.true((grown[last] ?? 0) > ofBox - 5e7, `${grown} ns by CPU, of the box ${ofBox}`);
});

kernelTest('a spinner runs on its CPU alone, whichever CPU reads', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const last = navigator.hardwareConcurrency - 1;
  await startPinned(box, last, ...spin);
  const elsewhere = () =>
    [...(probe.readRunByCpu().get(box.id) ?? [])]
      .filter((_, cpu) => cpu !== last)
      .reduce((sum, ns) => sum + ns, 0);
  probe.readTotals();
  const before = elsewhere();
  for (let i = 0; i < 10; i += 1) {
    await pause(50);
    probe.readTotals();
  }
  t.is(elsewhere(), before);
  t.true((probe.readRunByCpu().get(box.id)?.[last] ?? 0) > 3e8);
});

kernelTest('the histogram agrees with its count and its sum', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  await startPinned(box, 0, workload, 'latency', '--period-us', '1000', '--burn-us', '200');
  await startPinned(box, 0, ...spin);
  await pause(1000);
  const { slots, latencyCount, latencySumNs } = latenciesOf(readDetails(probe, box).counters);
  let [count, least, most] = [0, 0, 0];
  for (const [slot, n] of slots.entries()) {
    count += n;
    least += n * 2 ** (slot / 4 - 30) * 1e9;
    most += n * 2 ** ((slot + 1) / 4 - 30) * 1e9;
  }
  t.is(count, latencyCount);
  t.true(count > 500, `${count} latencies in a second of wake-ups each ms`);
  t.true(least <= latencySumNs && latencySumNs <= most, `${least} <= ${latencySumNs} <= ${most}`);
});

kernelTest('what does not fit into the map of instances is counted as lost', async t => {
  const probe = startProbe({ maxInstances: 1 });
  const box = makeBox();
  await startPinned(box, 0, ...spin);
  await pause(100);
  t.true(probe.readTotals().size <= 1);
  t.true(probe.counters().lost.instance_map_full > 0);
  t.true(Number(probe.counters().events) > 0);
});

kernelTest('where 300 cgroups run for the first time at once, each is charged', async t => {
  const burst = await makeBurst(cpuRoot, 300);
  t.teardown(burst.end);
  const probe = startProbe();
  await burst.letGo();
  const ids = burst.boxes.map(({ id }) => id);
  const totals = probe.readTotals();
  t.deepEqual(
    ids.filter(id => (totals.get(id)?.runNs ?? 0) < 1e5),
    [],
  );
  t.is(probe.counters().lost.instance_memory, 0);
  // Nobody runs there any more: the detailed reading is of the same totals, whichever map they lie in.
  const { instances } = probe.readDetails();
  for (const id of ids)
    t.is(word(instances.get(id) ?? new Float64Array(), 'runNs'), totals.get(id)?.runNs ?? 0);
  const again = probe.detailsOf([...ids, 123_456_789]);
  t.deepEqual([...again.keys()], ids);
  for (const [id, counters] of again) t.is(word(counters, 'runNs'), totals.get(id)?.runNs ?? 0);
  probe.forget(ids);
  const left = probe.readTotals();
  t.false(ids.some(id => left.has(id)));
});

kernelTest('a cgroup that was forgotten is gone, and the others stay', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const child = await startPinned(box, 0, ...spin);
  read(probe, box);
  child.kill('SIGKILL');
  await new Promise(resolve => child.once('exit', resolve));
  const before = probe.readTotals();
  t.true(before.has(box.id));
  probe.forget([box.id, 123_456_789]);
  const after = probe.readTotals();
  t.false(after.has(box.id));
  t.true(after.size >= before.size - 1);
});

unifiedTest('on cgroup v2 the id is the one of the unified hierarchy', async t => {
  const probe = startProbe({ cgroupV1: false });
  const box = makeBox('usual', unifiedRoot);
  const child = await startPinned(box, 0, ...spin);
  await pause(200);
  const [from, before] = readTogether(probe, box, () => schedstat(child));
  await pause(1500);
  const [to, after] = readTogether(probe, box, () => schedstat(child));
  const { run, wait, seconds } = cores(from, to);
  near(t, run, (after.runNs - before.runNs) / 1e9 / seconds, 0.015, 'run');
  near(t, run + wait, 1, 0.01, 'run + wait');
});

kernelTest(
  'a task of the root is charged to the root, though an autogroup schedules it',
  async t => {
    const probe = sharedProbe();
    const enter = `echo $$ > ${cpuRoot}/cgroup.procs && exec timeout 5 setsid -w "$0" "$@"`;
    const child = spawn('sh', ['-c', enter, ...spin], { stdio: 'ignore' });
    t.teardown(() => child.kill());
    const tasks = await eventually('the spinner has run', 5, () => {
      probe.readTotals();
      const all = probe.readDetails().tasks.map(task => task.totals());
      const found = all.filter(task => task.name === 'sculpt-workload');
      return found.some(task => isDescendant(task.tid, child) && task.runNs > 1e6) ? found : null;
    });
    const task = tasks.find(({ tid }) => isDescendant(tid, child));
    t.is(task?.cgroupId, statSync(cpuRoot).ino);
    t.true((probe.readTotals().get(statSync(cpuRoot).ino)?.runNs ?? 0) >= (task?.runNs ?? 1));
  },
);

function isDescendant(tid: number, ancestor: ChildProcess): boolean {
  for (let pid = tid; pid > 1; ) {
    if (pid === ancestor.pid) return true;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      pid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    } catch {
      return false;
    }
  }
  return false;
}

kernelTest('a probe that was stopped leaves no program behind', async t => {
  const probe = startProbe();
  probe.stop();
  t.throws(() => probe.readTotals(), { message: /closed/ });
  await t.notThrowsAsync(async () => {
    const again = startProbe();
    again.readTotals();
  });
});
