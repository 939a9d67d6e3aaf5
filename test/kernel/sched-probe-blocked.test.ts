import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import type { SchedProbe } from '../../src/agent/probes/sched.ts';
import { word } from '../../src/agent/probes/sched-layout.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { watchRates } from '../support/sched-loads.ts';
import {
  endAll,
  makeBox,
  near,
  readDetails,
  sharedProbe,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../support/sched-scene.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
test.afterEach.always(endAll);

/** Waits until processes have that many threads, together. */
const threadsOf = (children: readonly ChildProcess[], wanted: number) =>
  eventually(`${wanted} threads are there`, 20, () => {
    const threads = children.flatMap(({ pid }) => readdirSync(`/proc/${pid}/task`));
    return threads.length === wanted ? true : null;
  });

kernelTest(
  'sleepers, a convoy that waits for its lock, and the parent of a vfork, which is uninterruptible, are charged at each read',
  async t => {
    const box = makeBox();
    await startPinned(box, 0, workload, 'threads', '--count', '40');
    await pause(300);
    const probe = startProbe();
    const [late, convoy, vfork] = [makeBox(), makeBox(), makeBox()];
    await startPinned(late, 0, workload, 'threads', '--count', '10');
    await startPinned(convoy, 0, workload, 'convoy', '--threads', '4');
    await startPinned(vfork, 0, workload, 'vfork');
    await pause(300);
    const [older, newer, queued, forked] = await Promise.all([
      watchRates(probe, box),
      watchRates(probe, late),
      watchRates(probe, convoy),
      watchRates(probe, vfork),
    ]);
    // They never wake.
    near(t, older.sleep, 40, 0.4, 'sleep of those that were there before the probe');
    near(t, newer.sleep, 10, 0.1, 'sleep of those that came after');
    t.is(older.wakeups + newer.wakeups + older.io + newer.lock, 0);
    // Of the convoy the one that has the lock sleeps.
    const { lock, sleep, run, wait, io, uninterruptible } = queued;
    near(t, lock, 3, 0.1, 'lock');
    near(t, sleep, 1, 0.1, 'sleep');
    near(t, lock + sleep + run + wait + io + uninterruptible, 4, 0.04, 'four tasks in all');
    near(t, forked.uninterruptible, 1, 0.02, 'uninterruptible');
    near(t, forked.sleep, 1, 0.02, 'sleep of its child');
    t.is(forked.io, 0);
  },
);

kernelTest(
  'sleepers that are moved are counted where they are when all tasks are looked at, and before that where they fell asleep, until they wake',
  async t => {
    const [looks, waits] = [
      startProbe({ wholeLookSeconds: 0 }),
      startProbe({ wholeLookSeconds: 1000 }),
    ];
    const [from, to] = [makeBox(), makeBox()];
    const child = await startPinned(from, 0, workload, 'threads', '--count', '20');
    await startPinned(to, 0, workload, 'threads', '--count', '1');
    await pause(300);
    for (const probe of [looks, waits]) readDetails(probe, from);
    to.write('cgroup.procs', String(child.pid));
    readDetails(looks, to);
    const bothOf = (probe: SchedProbe) =>
      Promise.all([watchRates(probe, from, 1), watchRates(probe, to, 1)]);
    const [[left, joined], [stayed, before]] = await Promise.all([bothOf(looks), bothOf(waits)]);
    t.is(left.sleep, 0);
    near(t, joined.sleep, 21, 0.2, 'sleep where they are now');
    near(t, stayed.sleep, 20, 0.2, 'sleep where they fell asleep');
    near(t, before.sleep, 1, 0.01, 'sleep of who was there');
    // Each thread wakes to stop, and sleeps as a stopped one does.
    child.kill('SIGSTOP');
    await pause(100);
    const [after, here] = await bothOf(waits);
    t.is(after.sleep, 0);
    near(t, here.sleep, 21, 0.2, 'sleep where they are now');
  },
);

kernelTest('what slept and ended between two readings is charged, its last sleep too', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const child = box.spawn('sleep', '0.5');
  await new Promise(resolve => child.once('exit', resolve));
  const counters = probe.detailsOf([box.id]).get(box.id);
  near(t, word(counters ?? new Float64Array(), 'blockedNs', 3) / 1e9, 0.5, 0.02, 'sleep');
});

kernelTest('more tasks than one answer has room for are told once each', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const child = await startPinned(box, 0, workload, 'threads', '--count', '2500');
  await threadsOf([child], 2500);
  const told = probe.readDetails().tasks.filter(task => task.totals().tgid === child.pid);
  t.is(new Set(told.map(({ tid }) => tid)).size, 2500);
  t.is(told.length, 2500);
  const again = probe.readDetails().tasks.filter(task => task.totals().tgid === child.pid);
  t.deepEqual(again, []);
});

kernelTest('so are more tasks that are awake all the while, and the reading ends', async t => {
  const probe = sharedProbe();
  const box = makeBox('fewest');
  // Who makes threads that spin has to wait for them: few each.
  const children = Array.from({ length: 30 }, () => box.spawn(workload, 'spin', '--threads', '50'));
  await threadsOf(children, 1500);
  const tgids = new Set(children.map(({ pid }) => pid));
  for (let reading = 0; reading < 3; reading += 1) {
    await pause(50);
    const told = probe.readDetails().tasks.filter(task => tgids.has(task.totals().tgid));
    t.is(new Set(told.map(({ tid }) => tid)).size, told.length);
    t.is(told.length, 1500);
  }
});

kernelTest('a name is told apart by itself alone, whatever a longer one left behind', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const child = await startPinned(
    box,
    0,
    workload,
    'latency',
    '--period-us',
    '1000',
    '--burn-us',
    '10',
  );
  const hashes = new Map<string, Set<number>>();
  for (let reading = 0; reading < 10; reading += 1) {
    await pause(50);
    for (const { totals, nameHash } of probe
      .readDetails()
      .tasks.map(task => ({ totals: task.totals(), nameHash: task.nameHash }))) {
      hashes.set(totals.name, (hashes.get(totals.name) ?? new Set()).add(nameHash));
      // Of other lengths come and go.
      if (reading % 2 === 0 && totals.tid === child.pid) box.spawn('true');
    }
  }
  t.true(hashes.size > 3, `${hashes.size} names`);
  t.deepEqual(
    [...hashes].filter(([, each]) => each.size !== 1),
    [],
  );
});

kernelTest('what reads a disk directly waits for I/O', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  const file = `/var/tmp/sculptor-test-${process.pid}`;
  const fd = openSync(file, 'w');
  t.teardown(() => rmSync(file));
  for (let mb = 0; mb < 32; mb += 1) writeSync(fd, Buffer.alloc(1 << 20, 1));
  closeSync(fd);
  const read = `while :; do dd if=${file} of=/dev/null bs=4k iflag=direct 2>/dev/null; done`;
  box.spawn('taskset', '-c', '0', 'sh', '-c', read);
  await pause(500);
  const { io, run, wait, sleep, uninterruptible } = await watchRates(probe, box, 1);
  // One task reads, and the shell sleeps until it has ended.
  t.true(io > 0.3, `io: ${io}`);
  near(t, io + run + wait + uninterruptible, 1, 0.1, 'the reader');
  t.true(sleep > 0.8, `sleep: ${sleep}`);
});

kernelTest('switches are those of /proc/PID/status, and wake-ups the voluntary ones', async t => {
  const probe = sharedProbe();
  const [box, other] = [makeBox(), makeBox()];
  const child = await startPinned(
    box,
    0,
    workload,
    'latency',
    '--period-us',
    '1000',
    '--burn-us',
    '400',
  );
  await startPinned(other, 0, ...spin);
  await pause(300);
  const before = switches(child);
  const seen = await watchRates(probe, box);
  const after = switches(child);
  const voluntary = (after.voluntary - before.voluntary) / seen.elapsed;
  const involuntary = (after.involuntary - before.involuntary) / seen.elapsed;
  t.true(voluntary > 300, `${voluntary} voluntary switches a second`);
  near(t, seen.voluntary, voluntary, voluntary * 0.01 + 2, 'voluntary');
  near(t, seen.involuntary, involuntary, involuntary * 0.01 + 2, 'involuntary');
  near(t, seen.wakeups, voluntary, voluntary * 0.01 + 2, 'wake-ups');
});

function switches({ pid }: ChildProcess) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const count = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    voluntary: count('voluntary_ctxt_switches'),
    involuntary: count('nonvoluntary_ctxt_switches'),
  };
}

kernelTest('a spinner is in user mode, and what copies zeros is in the kernel', async t => {
  const probe = sharedProbe();
  const [spinner, copier] = [makeBox(), makeBox()];
  await startPinned(spinner, 0, ...spin);
  await startPinned(copier, 1, 'dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64k');
  await pause(300);
  const [burns, copies] = await Promise.all([
    watchRates(probe, spinner, 1),
    watchRates(probe, copier, 1),
  ]);
  t.true(burns.user > 0.9 && burns.kernel < 0.05, `spinner: ${burns.user} ${burns.kernel}`);
  t.true(copies.kernel > 0.7 && copies.user < 0.3, `dd: ${copies.user} ${copies.kernel}`);
});

kernelTest('what was short-lived is in user and kernel time too', async t => {
  const probe = sharedProbe();
  const box = makeBox();
  box.spawn(
    'sh',
    '-c',
    'while :; do dd if=/dev/zero of=/dev/null bs=64k count=4000 2>/dev/null; done',
  );
  await pause(300);
  const { user, kernel, run } = await watchRates(probe, box, 3);
  near(t, user + kernel, run, 0.1, 'ticks and run time');
  t.true(kernel > 0.5, `kernel: ${kernel}`);
});

kernelTest(
  'a migration counts as one across nodes only where the CPUs are of two nodes',
  async t => {
    const box = makeBox();
    const child = await startPinned(box, 0, ...spin);
    const [two, one] = [startProbe({ nodeOfCpu: [0, 1] }), startProbe({ nodeOfCpu: [1, 1] })];
    const moves = `while :; do taskset -pc 1 ${child.pid}; taskset -pc 0 ${child.pid}; done`;
    makeBox().spawn('sh', '-c', `${moves} >/dev/null`);
    await pause(300);
    const [across, within] = await Promise.all([watchRates(two, box, 1), watchRates(one, box, 1)]);
    t.true(across.migrations > 10, `${across.migrations} migrations a second`);
    t.is(across.nodeMigrations, across.migrations);
    t.true(within.migrations > 10, `${within.migrations} migrations a second`);
    t.is(within.nodeMigrations, 0);
  },
);
