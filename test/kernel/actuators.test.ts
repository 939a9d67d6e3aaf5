import { readlinkSync } from 'node:fs';
import type { Move } from '../../src/contract/recommendation.ts';
import type { UndoEntry } from '../../src/sculptor/actuators/actuator.ts';
import { actuatorOf, chooseActuator, runsOf } from '../../src/sculptor/actuators/choose.ts';
import type { Kernel } from '../../src/sculptor/kernel.ts';
import { planOf } from '../../src/sculptor/plan.ts';
import { move, nextLine, openCgroupLab } from '../sculptor/support/cgroup-lab.ts';
import { needs } from '../support/needs.ts';
import { until } from '../support/sockets.ts';

const test = needs('root', 'addon', 'cgroupV1Cpu', 'cgroupV1Cpuset', 'twoCpus');
const bpfTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'cgroupV1Cpuset', 'twoCpus');

function apply(kernel: Kernel, moves: Move[]): UndoEntry[] {
  const plan = planOf(kernel, { moves });
  if (plan.problems.length > 0) throw new Error(JSON.stringify(plan.problems));
  for (const run of runsOf(plan.entries)) {
    const [first] = run;
    if (first) actuatorOf[first.kind].apply(kernel, run);
  }
  return [...plan.entries];
}

function readBack(kernel: Kernel, entries: readonly UndoEntry[]): boolean {
  return runsOf(entries).every(run => {
    const [first] = run;
    return first && actuatorOf[first.kind].readBack(kernel, run).every(answer => answer.ours);
  });
}

function undo(kernel: Kernel, entries: readonly UndoEntry[]): string[] {
  return runsOf([...entries].reverse()).flatMap(run => {
    const [first] = run;
    return first ? actuatorOf[first.kind].undo(kernel, run, entries).map(each => each.state) : [];
  });
}

function codes(kernel: Kernel, moves: Move[]): string[] {
  return planOf(kernel, { moves }).problems.map(problem => problem.code);
}

test('a weight is set in v2 units and given back exactly', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('weight');
  lab.write(id, 'cpu.shares', '777');
  const entries = apply(lab.kernel, [move(id, { weight: 6400 })]);
  t.is(lab.read(id, 'cpu.shares'), '65536');
  t.true(readBack(lab.kernel, entries));
  t.deepEqual(undo(lab.kernel, entries), ['restored']);
  t.is(lab.read(id, 'cpu.shares'), '777');
  t.deepEqual(undo(lab.kernel, entries), ['restored'], 'again changes nothing');
});

test('idle and the weight that the kernel forgets with it are both given back exactly', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('idle');
  lab.write(id, 'cpu.shares', '2345');
  const entries = apply(lab.kernel, [move(id, { idle: true })]);
  t.is(lab.read(id, 'cpu.idle'), '1');
  t.true(readBack(lab.kernel, entries));
  t.deepEqual(codes(lab.kernel, [move(id, { weight: 200 })]), ['no-actuator']);
  t.deepEqual(undo(lab.kernel, entries), ['restored', 'restored']);
  t.is(lab.read(id, 'cpu.idle'), '0');
  t.is(lab.read(id, 'cpu.shares'), '2345');
});

test('an undo that crashed between the idle flag and the weight is finished by the next one', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('idle-crash');
  lab.write(id, 'cpu.shares', '2345');
  const entries = apply(lab.kernel, [move(id, { idle: true })]);
  lab.write(id, 'cpu.idle', '0');
  t.is(lab.read(id, 'cpu.shares'), '1024', 'the kernel forgot the weight');
  t.deepEqual(undo(lab.kernel, entries), ['restored', 'restored']);
  t.is(lab.read(id, 'cpu.shares'), '2345');
});

test('a cgroup that was idle before stays idle after', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('was-idle');
  lab.write(id, 'cpu.idle', '1');
  const entries = apply(lab.kernel, [move(id, { idle: false })]);
  t.is(lab.read(id, 'cpu.idle'), '0');
  undo(lab.kernel, entries);
  t.is(lab.read(id, 'cpu.idle'), '1');
});

test('a value that somebody else wrote meanwhile is left as found', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('yield');
  const entries = apply(lab.kernel, [move(id, { weight: 200 })]);
  lab.write(id, 'cpu.shares', '3000');
  t.false(readBack(lab.kernel, entries));
  t.deepEqual(undo(lab.kernel, entries), ['yielded']);
  t.is(lab.read(id, 'cpu.shares'), '3000');
});

test('a cgroup that was made again under the same path is not touched', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('again');
  const entries = apply(lab.kernel, [move(id, { weight: 200 })]);
  await lab.remove(id);
  t.deepEqual(undo(lab.kernel, entries), ['gone']);
  lab.make('again');
  lab.write(id, 'cpu.shares', '2048');
  t.deepEqual(undo(lab.kernel, entries), ['gone']);
  t.is(lab.read(id, 'cpu.shares'), '2048');
});

test('an instance with a cpuset of its own is confined by it, and gets it back', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('cpuset', ['cpu', 'cpuset']);
  const child = await lab.spawn(id, ['cpu', 'cpuset']);
  const moves = [move(id, { cpus: [1] })];
  const before = lab.read(id, 'cpuset.cpus');
  const entries = apply(lab.kernel, moves);
  t.is(lab.read(id, 'cpuset.cpus'), '1');
  t.deepEqual(lab.native.getAffinity(child.pid), [1]);
  t.deepEqual(
    entries.map(entry => entry.kind),
    ['cpuset'],
  );
  t.deepEqual(undo(lab.kernel, entries), ['restored']);
  t.is(lab.read(id, 'cpuset.cpus'), before);
});

bpfTest('a mask of its own survives a cpuset that is narrowed and given back', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('own', ['cpu', 'cpuset']);
  const child = await lab.spawn(id, ['cpu', 'cpuset']);
  lab.native.setAffinity(Int32Array.of(child.pid), Int32Array.of(0));
  const entries = apply(lab.kernel, [move(id, { cpus: [1] })]);
  t.deepEqual(lab.native.getAffinity(child.pid), [1]);
  undo(lab.kernel, entries);
  t.deepEqual(lab.native.getAffinity(child.pid), [0]);
});

test('CPUs that are offline or outside the parent cpuset are named', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('narrow', ['cpu', 'cpuset']);
  const child = await lab.spawn(id, ['cpu', 'cpuset']);
  lab.write(id, 'cpuset.cpus', '0');
  t.true(codes(lab.kernel, [move(id, { cpus: [4095] })]).includes('cpu-offline'));
  t.deepEqual(codes(lab.kernel, [move(id, { cpus: [1] }, [lab.thread(child.pid)])]), [
    'outside-parent',
  ]);
});

bpfTest('a thread without a mask of its own follows a later widening of its cpuset', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('future', ['cpu', 'cpuset']);
  const child = await lab.spawn(id, ['cpu', 'cpuset']);
  lab.write(id, 'cpuset.cpus', '0');
  t.deepEqual(lab.native.getAffinity(child.pid), [0]);
  const entries = apply(lab.kernel, [move(id, { cpus: [0] }, [lab.thread(child.pid)])]);
  t.true(undo(lab.kernel, entries).every(state => state === 'restored'));
  t.deepEqual(lab.native.getAffinity(child.pid), [0]);
  lab.write(id, 'cpuset.cpus', '0-1');
  t.deepEqual(lab.native.getAffinity(child.pid), [0, 1], 'it follows');
});

bpfTest('a thread with a mask of its own gets exactly that back', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('own-thread');
  const child = await lab.spawn(id);
  lab.native.setAffinity(Int32Array.of(child.pid), Int32Array.of(0));
  const entries = apply(lab.kernel, [move(id, { cpus: [1] }, [lab.thread(child.pid)])]);
  t.deepEqual(lab.native.getAffinity(child.pid), [1]);
  undo(lab.kernel, entries);
  t.deepEqual(lab.native.getAffinity(child.pid), [0]);
});

bpfTest(
  'a thread gets the mask that it asked for back, also what of it its cpuset hid',
  async t => {
    const lab = openCgroupLab(t);
    const id = lab.make('hidden', ['cpu', 'cpuset']);
    const child = await lab.spawn(id, ['cpu', 'cpuset']);
    lab.native.setAffinity(Int32Array.of(child.pid), Int32Array.of(0, 1));
    lab.write(id, 'cpuset.cpus', '0');
    const asked = () => lab.kernel.ownMasks().get(child.pid)?.asked;
    const entries = apply(lab.kernel, [move(id, { cpus: [0] }, [lab.thread(child.pid)])]);
    t.deepEqual(asked(), [0]);
    for (const _ of ['once', 'again, as after a crash']) {
      t.true(undo(lab.kernel, entries).every(state => state === 'restored'));
      t.deepEqual(asked(), [0, 1]);
    }
    lab.write(id, 'cpuset.cpus', '0-1');
    t.deepEqual(lab.native.getAffinity(child.pid), [0, 1], 'it follows');
  },
);

bpfTest(
  'a thread whose cpuset leaves nothing of what it asked for gets back what it had',
  async t => {
    const lab = openCgroupLab(t);
    const id = lab.make('nothing-left', ['cpu', 'cpuset']);
    const child = await lab.spawn(id, ['cpu', 'cpuset']);
    lab.native.setAffinity(Int32Array.of(child.pid), Int32Array.of(0));
    lab.write(id, 'cpuset.cpus', '1');
    const entries = apply(lab.kernel, [move(id, { cpus: [1] }, [lab.thread(child.pid)])]);
    t.true(undo(lab.kernel, entries).every(state => state === 'restored'));
    t.deepEqual(lab.native.getAffinity(child.pid), [1]);
  },
);

bpfTest('a mask that the cpuset cut meanwhile is still ours, and is given back', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('cut', ['cpu', 'cpuset']);
  const child = await lab.spawn(id, ['cpu', 'cpuset']);
  const entries = apply(lab.kernel, [move(id, { cpus: [1] }, [lab.thread(child.pid)])]);
  lab.write(id, 'cpuset.cpus', '0');
  t.deepEqual(lab.native.getAffinity(child.pid), [0]);
  t.true(undo(lab.kernel, entries).every(state => state === 'restored'));
  lab.write(id, 'cpuset.cpus', '0-1');
  t.deepEqual(lab.native.getAffinity(child.pid), [0, 1]);
});

bpfTest('processes and threads that were born during the action are put back as well', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('born');
  const parent = await lab.spawn(id, ['cpu'], 'read go; sleep 600 & echo $!; wait');
  const entries = apply(lab.kernel, [move(id, { cpus: [1] })]);
  parent.stdin?.write('go\n');
  const born = Number(await nextLine(parent));
  t.deepEqual(lab.native.getAffinity(born), [1], 'it inherited our mask');
  t.true(undo(lab.kernel, entries).every(state => state === 'restored'));
  t.deepEqual(lab.native.getAffinity(parent.pid), [0, 1]);
  t.deepEqual(lab.native.getAffinity(born), [0, 1]);
});

bpfTest('a child of a pinned thread gets the mask that its parent had of its own', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('born-own');
  const parent = await lab.spawn(id, ['cpu'], 'read go; sleep 600 & echo $!; wait');
  lab.native.setAffinity(Int32Array.of(parent.pid), Int32Array.of(0));
  const entries = apply(lab.kernel, [move(id, { cpus: [1] })]);
  parent.stdin?.write('go\n');
  const born = Number(await nextLine(parent));
  undo(lab.kernel, entries);
  t.deepEqual(lab.native.getAffinity(born), [0]);
});

bpfTest('where a cpuset leaves nothing of that mask, it is given back when it can be', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('born-outside', ['cpu', 'cpuset']);
  const parent = await lab.spawn(id, ['cpu', 'cpuset'], 'read go; sleep 600 & echo $!; wait');
  lab.native.setAffinity(Int32Array.of(parent.pid), Int32Array.of(0));
  const entries = apply(lab.kernel, [move(id, { cpus: [1] }, [lab.thread(parent.pid)])]);
  parent.stdin?.write('go\n');
  const born = Number(await nextLine(parent));
  lab.write(id, 'cpuset.cpus', '1');
  t.deepEqual(undo(lab.kernel, entries), ['failed', 'failed']);
  lab.write(id, 'cpuset.cpus', '0-1');
  t.deepEqual(undo(lab.kernel, entries), ['restored', 'restored']);
  for (const tid of [parent.pid, born]) t.deepEqual(lab.native.getAffinity(tid), [0]);
});

test('a task that ended, a tid that was reused, and a task of another instance are told apart', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('tasks');
  const other = lab.make('others');
  const child = await lab.spawn(id);
  const stranger = await lab.spawn(other);
  const ended = await lab.spawn(id);
  const endedThread = lab.thread(ended.pid);
  await lab.kill(ended);
  const reused = { kind: 'thread', tid: child.pid, startTicks: 1 } as const;
  t.deepEqual(codes(lab.kernel, [move(id, { cpus: [1] }, [endedThread])]), ['task-ended']);
  t.deepEqual(codes(lab.kernel, [move(id, { cpus: [1] }, [reused])]), ['tid-reused']);
  t.deepEqual(codes(lab.kernel, [move(id, { cpus: [1] }, [lab.thread(stranger.pid)])]), [
    'not-found',
  ]);
});

test('a class of tasks is every thread of its cgroup, or the children that run an executable', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('class');
  const parent = await lab.spawn(id, ['cpu'], 'sleep 600 & echo $!; wait');
  const child = Number(await nextLine(parent));
  const exeOf = (pid: number) => readlinkSync(`/proc/${pid}/exe`);
  // The shell tells of it before it runs its program.
  await until(() => exeOf(child) !== exeOf(parent.pid));
  const exe = exeOf(child);
  const task = lab.thread(parent.pid);
  if (task.kind !== 'thread') throw new Error('a thread');
  const class1 = {
    kind: 'class',
    parent: { tgid: parent.pid, startTicks: task.startTicks },
    exe,
  } as const;
  const entries = apply(lab.kernel, [move(id, { cpus: [1] }, [class1])]);
  t.deepEqual(lab.native.getAffinity(child), [1]);
  t.deepEqual(lab.native.getAffinity(parent.pid), [0, 1]);
  undo(lab.kernel, entries);
  t.deepEqual(lab.native.getAffinity(child), [0, 1]);
  const class2 = { kind: 'class', cgroup: id } as const;
  const all = apply(lab.kernel, [move(id, { cpus: [0] }, [class2])]);
  t.deepEqual([child, parent.pid].map(lab.native.getAffinity), [[0], [0]]);
  undo(lab.kernel, all);
  t.deepEqual(codes(lab.kernel, [move(id, { cpus: [1] }, [{ ...class1, exe: '/no/such' }])]), [
    'not-found',
  ]);
});

test('what has no actuator, no cgroup, another owner, or two moves is refused with a reason', async t => {
  const lab = openCgroupLab(t);
  const id = lab.make('refused');
  t.deepEqual(codes(lab.kernel, [move(id, { memoryNodes: [0] })]), ['no-actuator']);
  t.deepEqual(codes(lab.kernel, [move(id, { sliceSeconds: 0.001 })]), ['no-actuator']);
  t.deepEqual(codes(lab.kernel, [move('/no-such', { weight: 2 })]), ['not-found']);
  t.deepEqual(codes(lab.kernel, [move('/', { weight: 2 })]), ['protected']);
  t.deepEqual(codes(lab.kernel, [move('/../etc', { weight: 2 })]), ['no-actuator']);
  t.deepEqual(codes(lab.kernel, [move(id, { weight: 2 }), move(id, { weight: 3 })]), ['overlap']);
  t.deepEqual(codes(lab.kernel, [move(id, { weight: 2 }), move(id, { idle: true })]), ['overlap']);
  const systemd = { ...lab.kernel, systemd: true };
  t.deepEqual(codes(systemd, [move('/x.service', { weight: 2 })]), ['owned']);
  t.deepEqual(codes(lab.kernel, [move('/docker/abc', { cpus: [0] })]), ['owned']);
});

test('cpusets that widen are written before those that narrow', async t => {
  const lab = openCgroupLab(t);
  const [wide, narrow] = [
    lab.make('b-wide', ['cpu', 'cpuset']),
    lab.make('a-narrow', ['cpu', 'cpuset']),
  ];
  await lab.spawn(wide, ['cpu', 'cpuset']);
  await lab.spawn(narrow, ['cpu', 'cpuset']);
  lab.write(wide, 'cpuset.cpus', '0');
  const moves = [move(narrow, { cpus: [1] }), move(wide, { cpus: [0, 1] })];
  const plan = planOf(lab.kernel, { moves });
  t.deepEqual(
    plan.entries.map(entry => entry.key),
    [wide, narrow],
  );
  t.deepEqual(plan.widened, [wide]);
  t.is(
    chooseActuator(lab.kernel, move(wide, { cpus: [0] }))?.dryRun(move(wide, { cpus: [0] })),
    `set cpuset.cpus of ${wide} to 0`,
  );
});
