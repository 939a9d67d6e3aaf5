import { renameSync } from 'node:fs';
import test from 'ava';
import type { SourceKind } from '../../src/agent/sources/source.ts';
import { createTally } from '../../src/agent/sources/tally.ts';
import { profileSchema } from '../../src/contract/profile.ts';
import { taskFiles } from '../linux/tree.ts';
import { idleTask } from './support/changed-task.ts';
import { stageRounds } from './support/rounds-stage.ts';

test('headline series every second, those of the contended with every reading, the rest every ten', async t => {
  const agent = stageRounds(t);
  agent.add('/calm', { used: 0.5, wait: 0.01 });
  agent.add('/hot', { used: 0.5, wait: 0.5 });
  await agent.read(100);
  const times = (metric: string, instance: string) => agent.valuesOf(metric, instance).length;
  t.is(times('container.cpu.time', '/calm'), 20);
  t.is(times('sculptor.runqueue.wait', '/calm'), 20);
  t.is(times('sculptor.cpu.throttled.time', '/calm'), 20);
  t.is(times('container.cpu.time', '/hot'), 100);
  t.is(times('sculptor.runqueue.latency', '/hot'), 1);
  t.is(times('sculptor.cpu.migrations', '/calm'), 1);
  t.is(times('system.cpu.time', 'h'), 40);
  t.is(times('sculptor.agent.events', 'h'), 1);
});

test("a user's own headline series goes out with the others, and with details is the source's", async t => {
  const metric = { name: 'my.requests', unit: '1', type: 'counter', description: '' } as const;
  const agent = stageRounds(t, {
    ownHeadline: ({ start }) => [{ metric, attributes: {}, start, value: 7 }],
  });
  agent.add('/calm', { used: 0.5, wait: 0.01 });
  await agent.read(100);
  t.is(agent.valuesOf('my.requests', '/calm').length, 19);
  t.is(agent.valuesOf('container.cpu.time', '/calm').length, 20);
});

test('of 25 contended instances 20 go out at the read interval; the 5 others are counted', async t => {
  const agent = stageRounds(t);
  for (let i = 0; i < 25; i += 1) agent.add(`/i${i}`, { used: 0.1, wait: 1 + i / 100 });
  await agent.read(50);
  await agent.read(1);
  t.true(agent.valuesOf('container.cpu.time', '/i24').length > 45);
  t.true(agent.valuesOf('container.cpu.time', '/i0').length <= 12);
  t.is(agent.rounds.status().contended.length, 20);
  t.is(agent.valuesOf('sculptor.agent.instances.uncounted', 'h').at(-1)?.value, 5);
});

test('with no fast instances and slow headlines, a contended one is told with the details, and read once a second', async t => {
  const agent = stageRounds(t, { config: { fastInstances: 0, headlineIntervalSeconds: 10 } });
  agent.add('/hot', { used: 0.5, wait: 0.5 });
  await agent.read(41);
  t.is(agent.clock.monotonicSeconds(), 41);
  const times = agent.valuesOf('container.cpu.time', '/hot').map(({ at }) => at);
  t.deepEqual(times, [0, 10, 20, 30, 40]);
  t.is(agent.rounds.status().contended.length, 0);
  t.is(agent.valuesOf('sculptor.agent.instances.uncounted', 'h').at(-1)?.value, 1);
});

test('200 instances are 200 resources, each with an identity of its own', async t => {
  const agent = stageRounds(t);
  for (let i = 0; i < 200; i += 1) agent.add(`/pool/i${i}`);
  await agent.read(6);
  const resources = agent.exports.at(-1)?.resources ?? [];
  const ids = new Set(resources.map(each => each.resource['service.instance.id']));
  t.is(ids.size, 201);
  t.deepEqual(resources[0]?.resource, {
    'service.name': 'sculptor-agent',
    'service.instance.id': 'h/pool/i0',
    'host.id': 'h',
    'host.name': 'host',
    'sculptor.instance.id': '/pool/i0',
    'sculptor.instance.kind': 'cgroup',
    'sculptor.instance.name': 'i0',
  });
});

test('a placement leaves with the first reading that knows of the instance, and its first totals too', async t => {
  const agent = stageRounds(t);
  await agent.read(7);
  agent.add('/new', { used: 0.5, wait: 0 }, { 'cgroup/new/cgroup.threads': '5', ...taskFiles(5) });
  await agent.read(1);
  t.is(agent.placements('/new').length, 1);
  t.is(agent.placements('/new')[0]?.tasks[0]?.tid, 5);
  t.is(agent.valuesOf('container.cpu.time', '/new').length, 1);
});

test('many new instances are placed fifty at a time, none left out', async t => {
  const agent = stageRounds(t);
  for (let i = 0; i < 120; i += 1) agent.add(`/i${i}`);
  await agent.read(1);
  const placed = () =>
    Array.from({ length: 120 }, (_, i) => agent.placements(`/i${i}`).length).filter(n => n > 0);
  t.is(placed().length, 50);
  await agent.read(2);
  t.is(placed().length, 120);
});

test('a change of what a contended or busy instance is given is told within a second, and only then', async t => {
  const agent = stageRounds(t);
  const files = { 'cgroup/hot/cgroup.threads': '5', ...taskFiles(5) };
  agent.add('/hot', { used: 0.5, wait: 0.5 }, files);
  await agent.read(50);
  t.is(agent.placements('/hot').length, 1);
  agent.tree.write({ 'cgroup/hot/cpu.weight': '800' });
  await agent.read(6);
  t.deepEqual(
    agent.placements('/hot').map(each => each.cgroup.weight),
    [100, 800],
  );
  agent.tree.write(taskFiles(5, { allowed: '1' }));
  await agent.read(6);
  t.deepEqual(agent.placements('/hot').at(-1)?.tasks[0]?.affinity, [1]);
  // The CPU it happened to run on last is no change.
  agent.tree.write(taskFiles(5, { allowed: '1', cpu: 1 }));
  await agent.read(20);
  t.is(agent.placements('/hot').length, 3);
});

test('what an instance at rest is given is told within a second after somebody wrote it, its own or above', async t => {
  const agent = stageRounds(t);
  agent.add('/pool/a', { used: 0, wait: 0 }, { 'cgroup/pool/cpu.max': 'max 100000' });
  agent.add('/pool/b', { used: 0, wait: 0 });
  const given = (instance: string) =>
    agent.placements(instance).map(({ cgroup }) => [cgroup.weight, cgroup.quotaCores]);
  await agent.read(12);
  agent.tree.write({ 'cgroup/pool/a/cpu.weight': '300', 'cgroup/pool/a/memory.high': '1' });
  await agent.read(6);
  t.deepEqual(given('/pool/a').slice(1), [[300, null]]);
  agent.tree.write({ 'cgroup/pool/cpu.max': '50000 100000' });
  await agent.read(6);
  t.deepEqual(given('/pool/a').slice(2), [[300, 0.5]]);
  t.deepEqual(given('/pool/b').slice(1), [[100, 0.5]]);
  agent.tree.write({ 'cgroup/pool/cgroup.procs': '1' });
  await agent.read(12);
  t.is(agent.placements('/pool/a').length + agent.placements('/pool/b').length, 5);
});

test('where writes are not seen the contended are asked each second, and what goes is found all the same', async t => {
  const refusal = Object.assign(new Error('EMFILE: none left'), { code: 'EMFILE' });
  const agent = stageRounds(t, {
    native: {
      openFolderWatch: () => {
        throw refusal;
      },
    },
  });
  for (let i = 0; i < 12; i += 1) agent.add(`/hot${i}`, { used: 0.5, wait: 0.5 });
  agent.add('/calm', { used: 0, wait: 0 });
  await agent.read(12);
  for (let i = 0; i < 12; i += 1) agent.tree.write({ [`cgroup/hot${i}/cpu.weight`]: '300' });
  await agent.read(10);
  for (let i = 0; i < 12; i += 1)
    t.is(agent.placements(`/hot${i}`).at(-1)?.cgroup.weight, 300, `hot${i}`);
  agent.remove('/calm');
  await agent.read(12);
  t.false(agent.placements('/calm').at(-1)?.alive);
  t.deepEqual(agent.said, [
    'agent: not all cgroups can be watched (EMFILE: none left); what instances are given is looked at by turns. The limits are fs.inotify.max_user_watches and fs.inotify.max_user_instances',
  ]);
});

test('masks of the tasks of contended instances are looked at by turns', async t => {
  const agent = stageRounds(t);
  for (let i = 0; i < 12; i += 1)
    agent.add(`/hot${i}`, { used: 0.5, wait: 0.5 }, { [`cgroup/hot${i}/cgroup.threads`]: '5' });
  for (let i = 0; i < 100; i += 1) agent.add(`/busy${i}`, { used: 0.5, wait: 0 });
  await agent.read(20);
  for (let i = 0; i < 12; i += 1) agent.tree.write(taskFiles(5, { allowed: '1' }));
  const masks = () =>
    Array.from({ length: 12 }, (_, i) =>
      agent.placements(`/hot${i}`).filter(({ tasks }) => tasks[0]?.affinity.join() === '1'),
    ).filter(told => told.length > 0).length;
  t.is(masks(), 0);
  await agent.read(5 * 4);
  t.is(masks(), 12, 'four a second');
});

for (const [what, config, reads] of [
  ['', {}, 5],
  [', also where readings are as rare as looks', { fastInstances: 0 }, 1],
] as const)
  test(`who writes to a cgroup with many below all the time keeps nobody else from being told${what}`, async t => {
    const agent = stageRounds(t, { config });
    for (let i = 0; i < 120; i += 1) agent.add(`/pool/i${i}`, { used: 0.001, wait: 0 });
    for (let i = 0; i < 120; i += 1) agent.add(`/other${i}`, { used: 0.001, wait: 0 });
    await agent.read(10);
    const placements = (from: string) =>
      Array.from({ length: 120 }, (_, i) => agent.placements(`${from}${i}`).length);
    const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0);
    t.is(sum(placements('/pool/i')) + sum(placements('/other')), 240);
    for (let second = 0; second < 100; second += 1) {
      agent.tree.write({ 'cgroup/pool/cpu.max': `${second + 1}0000 100000` });
      await agent.read(reads);
      if (second === 50) agent.add('/new', { used: 0.001, wait: 0 });
      if (second === 51) t.is(agent.placements('/new').length, 1);
    }
    t.true(
      placements('/other').every(times => times === 2),
      'once a minute',
    );
    t.true(placements('/pool/i').every(times => times > 2));
    t.true(sum(placements('/pool/i')) < 120 * 2 + 100 * 60, 'fifty a second, and once a minute');
  });

test('suspects that are many have the threads with a mask of their own looked for once a second', async t => {
  let looks = 0;
  const agent = stageRounds(t, {
    maskedThreads: () => {
      looks += 1;
      return new Set();
    },
  });
  const threads = (i: number, tid: number) => ({ [`cgroup/i${i}/cgroup.threads`]: `${tid}` });
  const all = Array.from({ length: 8 }, (_, i) => i);
  for (const i of all)
    agent.add(`/i${i}`, { used: 0.5, wait: 0 }, { ...threads(i, 1), ...taskFiles(1) });
  await agent.read(10);
  looks = 0;
  for (let second = 1; second <= 20; second += 1) {
    for (const i of all)
      agent.tree.write({ ...threads(i, second * 10 + i), ...taskFiles(second * 10 + i) });
    await agent.read(5);
  }
  t.true(all.every(i => agent.placements(`/i${i}`).length > 5));
  t.true(looks <= 21, `${looks} in 20 s`);
});

test('a cgroup that is gone is not told as alive by whoever writes above it', async t => {
  const agent = stageRounds(t);
  agent.add('/pool/a', { used: 0, wait: 0 }, { 'cgroup/pool/cpu.max': 'max 100000' });
  agent.add('/pool/b', { used: 0, wait: 0 });
  await agent.read(10);
  agent.remove('/pool/a');
  agent.tree.write({ 'cgroup/pool/cpu.max': '50000 100000' });
  await agent.read(12);
  t.deepEqual(
    agent.placements('/pool/a').map(({ alive }) => alive),
    [true, false],
  );
  t.is(agent.placements('/pool/b').at(-1)?.cgroup.quotaCores, 0.5);
});

test('a CPU that goes offline has all cpusets looked at again', async t => {
  const agent = stageRounds(t);
  agent.add('/a', { used: 0, wait: 0 });
  await agent.read(8);
  agent.tree.write({
    'sys/devices/system/cpu/online': '0',
    'cgroup/cpuset.cpus.effective': '0',
  });
  await agent.read(6);
  t.deepEqual(
    agent.placements('/a').map(({ cpuset }) => cpuset.effective),
    [[0, 1], [0]],
  );
});

test('all is told again once a minute', async t => {
  const agent = stageRounds(t);
  agent.add('/a', { used: 0, wait: 0 });
  await agent.read(310);
  t.is(agent.placements('/a').length, 2);
  t.is(agent.topologies().length, 2);
  t.is(agent.topologies()[0]?.cpus.length, 2);
});

test('once a minute the tasks that ran are looked at again, and no others', async t => {
  const agent = stageRounds(t);
  const files = { 'cgroup/a/cgroup.threads': '5\n6', ...taskFiles(5), ...taskFiles(6) };
  const cgroupId = agent.add('/a', { used: 0.001, wait: 0 }, files);
  agent.setTasks([{ ...idleTask, cgroupId, tid: 5, tgid: 5 }]);
  await agent.read(5);
  agent.tree.write({ ...taskFiles(5, { cpu: 1 }), ...taskFiles(6, { cpu: 1 }) });
  await agent.read(330);
  t.deepEqual(
    agent.placements('/a').map(({ tasks }) => tasks.map(({ cpu }) => cpu)),
    [
      [0, 0],
      [1, 0],
    ],
  );
});

test('of a task that ran as who it was, the reading of the kernel tells enough, unless it has a mask of its own', async t => {
  const masked = new Set([7]);
  const agent = stageRounds(t, { maskedThreads: () => new Set(masked) });
  const tids = [5, 6, 7, 8];
  const filesOf = (name: string) =>
    Object.assign({}, ...tids.map(tid => taskFiles(tid, { name, allowed: '0' })));
  const files = { 'cgroup/a/cgroup.threads': tids.join('\n'), ...filesOf('first') };
  const cgroupId = agent.add('/a', { used: 0.001, wait: 0 }, files);
  const ran = (tid: number, name = 'first', cpu = 0) => ({
    ...{ ...idleTask, cgroupId, tid, tgid: tid, name, cpu },
  });
  const told = () =>
    agent
      .placements('/a')
      .at(-1)
      ?.tasks.map(({ tid, name, cpu, ownMask }) => [tid, name, cpu, ownMask]);
  agent.setTasks(tids.map(tid => ran(tid)));
  await agent.read(330);
  t.is(agent.placements('/a').length, 2);
  agent.tree.write(filesOf('second'));
  masked.add(8);
  agent.setTasks([ran(5, 'first', 1), ran(6, 'second', 1), ran(7, 'first', 1), ran(8, 'first', 1)]);
  await agent.read(310);
  t.deepEqual(told(), [
    [5, 'first', 1, false],
    [6, 'second', 0, false],
    [7, 'second', 0, true],
    [8, 'second', 0, true],
  ]);
});

test('of an instance whose tasks come and go, those that stay are read once a minute', async t => {
  const agent = stageRounds(t);
  const threads = (...tids: number[]) => ({ 'cgroup/a/cgroup.threads': tids.join('\n') });
  const files = { ...threads(5), ...taskFiles(5), ...taskFiles(6) };
  const cgroupId = agent.add('/a', { used: 0.5, wait: 0 }, files);
  agent.setTasks([{ ...idleTask, cgroupId, tid: 5, tgid: 5 }]);
  await agent.read(6);
  agent.tree.write({ ...threads(5, 6), ...taskFiles(5, { cpu: 1 }), ...taskFiles(6, { cpu: 1 }) });
  await agent.read(6);
  const cpus = () =>
    agent
      .placements('/a')
      .at(-1)
      ?.tasks.map(({ cpu }) => cpu);
  t.deepEqual(cpus(), [0, 1]);
  await agent.read(330);
  t.deepEqual(cpus(), [1, 1]);
});

test('a CPU that goes offline is told within a second', async t => {
  const agent = stageRounds(t);
  await agent.read(5);
  agent.tree.write({ 'sys/devices/system/cpu/online': '0' });
  await agent.read(6);
  t.deepEqual(
    agent.topologies().map(each => each.cpus.filter(cpu => cpu.online).length),
    [2, 1],
  );
});

test('a cgroup that is removed: its last totals, its end, and its key are told; nothing comes after', async t => {
  const agent = stageRounds(t);
  const id = agent.add('/a', { used: 1, wait: 0 });
  await agent.read(8);
  agent.remove('/a');
  await agent.read(15);
  const values = agent.valuesOf('container.cpu.time', '/a').map(point => Number(point.value));
  t.is(values.at(-1)?.toFixed(6), '1.600000');
  t.deepEqual(
    values,
    [...values].sort((a, b) => a - b),
  );
  t.false(agent.placements('/a').at(-1)?.alive);
  t.deepEqual(agent.forgotten, [id]);
  const before = agent.exports.flatMap(each => each.resources).length;
  await agent.read(5);
  t.is(agent.rounds.status().instances, 0);
  t.is(agent.exports.flatMap(each => each.resources).length, before + 1, 'the host only');
});

test('a cgroup made anew under its name begins a new life of the series', async t => {
  const agent = stageRounds(t);
  agent.add('/a', { used: 1, wait: 0 });
  await agent.read(8);
  agent.remove('/a');
  agent.tree.write({ 'cgroup/keeps-the-inode-from-being-reused/': '' });
  await agent.read(2);
  agent.add('/a', { used: 0.5, wait: 0 });
  await agent.read(12);
  const points = agent.valuesOf('container.cpu.time', '/a');
  t.is(new Set(points.map(point => point.start)).size, 2);
  t.true(agent.placements('/a').at(-1)?.alive);
  t.is(agent.placements('/a').filter(each => !each.alive).length, 1);
});

for (const [what, name, readsBetween] of [
  ['under another name', '/b', 12],
  ['under another name, at once', '/b', 0],
  ['under its own name', '/a', 12],
] as const)
  test(`a cgroup id that is used again ${what}: two lives, none of which falls, and nothing is told twice or not at all`, async t => {
    const agent = stageRounds(t);
    const id = agent.add('/a', { used: 0.5, wait: 0 });
    await agent.read(10);
    // A folder that is renamed keeps its inode. Another one is removed, so that the agent hears of it, as of a cgroup.
    const { cgroup } = agent.tree;
    renameSync(`${cgroup}/a`, `${cgroup}.away`);
    agent.tree.write({ 'cgroup/other/': '' });
    agent.tree.remove('cgroup/other');
    agent.setLoad(id, null);
    await agent.read(readsBetween);
    renameSync(`${cgroup}.away`, `${cgroup}${name}`);
    agent.setLoad(id, { used: 0.25, wait: 0 });
    await agent.read(41);
    t.deepEqual(agent.forgotten, [id]);
    const told = [...new Set(['/a', name])].flatMap(instance =>
      agent.valuesOf('container.cpu.time', instance).map(point => ({ instance, ...point })),
    );
    const lives = [...Map.groupBy(told, each => `${each.instance} ${each.start}`).values()];
    t.deepEqual(
      lives.map(([first]) => first?.instance),
      ['/a', name],
    );
    for (const life of lives) {
      const values = life.map(({ value }) => Number(value));
      t.deepEqual(
        values,
        values.toSorted((a, b) => a - b),
      );
    }
    const [old = 0, young = 0] = lives.map(life => Number(life.at(-1)?.value));
    const readings = Math.round(((told.at(-1)?.at ?? 0) - 2 - 0.2 * readsBetween) / 0.2) + 1;
    t.is((old + young).toFixed(6), (10 * 0.1 + readings * 0.05).toFixed(6));
    // What was counted until it was seen to be gone, and was past its grace, cannot be told apart.
    if (readsBetween > 0) t.is(old.toFixed(6), '1.000000');
    else t.true(old < 1 + 10 * 0.05, `${old}`);
    t.is(agent.placements('/a').filter(({ alive }) => !alive).length, 1);
    t.true(agent.placements(name).at(-1)?.alive);
  });

test('delta: what is added up is the total, also when exports fail', async t => {
  const agent = stageRounds(t, { temporality: 'delta' });
  agent.add('/a', { used: 0.5, wait: 0 });
  await agent.read(11);
  agent.setFails(true);
  await agent.read(10);
  const failed = agent.exports.length;
  agent.setFails(false);
  await agent.read(5);
  const delivered = agent
    .valuesOf('container.cpu.time', '/a')
    .filter(point => point.at <= 2.1 || point.at > (agent.exports[failed - 1]?.at ?? 0));
  const sum = delivered.reduce((total, point) => total + Number(point.value), 0);
  t.is(sum.toFixed(6), '2.600000', '26 readings of half a core');
});

test('QEMU makes its cgroups one instance: the VM, by its uuid, with its vCPUs', async t => {
  const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';
  const agent = stageRounds(t);
  const qemu = { cmdline: ['qemu-system-x86_64', '-uuid', uuid, '-name', 'web'] };
  agent.add(
    '/vm',
    { used: 0.5, wait: 0 },
    {
      'cgroup/vm/cgroup.procs': '5',
      'cgroup/vm/cgroup.threads': '5',
      ...taskFiles(5, { ...qemu, name: 'qemu-system-x86' }),
    },
  );
  const vcpus = agent.add(
    '/vm/vcpus',
    { used: 0.5, wait: 0 },
    {
      'cgroup/vm/vcpus/cgroup.threads': '6',
      'proc/5/task/5/': '',
      'proc/5/task/6/': '',
      ...taskFiles(6, { ...qemu, name: 'CPU 0/KVM', tgid: 5 }),
    },
  );
  agent.setTasks([
    {
      ...idleTask,
      cgroupId: vcpus,
      tid: 6,
      tgid: 5,
      startTicks: 1000,
      name: 'CPU 0/KVM',
      runNs: 1,
    },
  ]);
  await agent.read(60);
  const [placement] = agent.placements(uuid);
  t.deepEqual(placement?.instance, { id: uuid, kind: 'vm', name: 'web' });
  t.deepEqual(
    placement?.tasks.map(task => task.vcpu),
    [undefined, 0],
  );
  t.deepEqual(agent.placements('/vm'), []);
  t.is(Number(agent.valuesOf('container.cpu.time', uuid).at(-1)?.value).toFixed(6), '11.200000');
  t.is(agent.valuesOf('sculptor.task.cpu.time', uuid)[0]?.attributes['sculptor.vcpu.index'], 0);
  t.is(agent.rounds.status().instances, 1);
});

test('a QEMU that enters a known cgroup is found when its threads are seen', async t => {
  const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';
  const agent = stageRounds(t);
  agent.add('/vm', { used: 0.5, wait: 0 });
  await agent.read(3);
  agent.tree.write({
    'cgroup/vm/cgroup.procs': '5',
    'cgroup/vm/cgroup.threads': '5',
    ...taskFiles(5, { name: 'qemu-system-x86', cmdline: ['qemu-kvm', '-uuid', uuid] }),
  });
  await agent.read(12);
  t.deepEqual(
    agent.placements('/vm').map(each => each.alive),
    [true, false],
  );
  t.true(agent.placements(uuid).length >= 1);
  t.is(agent.rounds.status().instances, 1);
});

test('what was lost is told by reason, with zeros for what never happened', async t => {
  const agent = stageRounds(t);
  await agent.read(60);
  const byReason = Object.fromEntries(
    agent
      .valuesOf('sculptor.agent.events.lost', 'h')
      .map(point => [point.attributes['sculptor.reason'], point.value]),
  );
  t.deepEqual(byReason, {
    task_storage: 0,
    instance_map_full: 3,
    instance_memory: 0,
    pair: 0,
    unseen_switch: 0,
    withheld_switch: 0,
    recursion: 0,
    sched_failed_reads: 0,
    instance_unnamed: 0,
    failed_reads: 0,
  });
});

/** Counts 10 migrations a reading for each cgroup it is shown; `late` is what the kernel has counted since. */
function sourceOfTens(late: Map<number, number>): SourceKind {
  const counted = new Map<number, number>();
  const tally = createTally(1);
  return {
    name: 'tens',
    tells: 'tens',
    start: () => ({
      name: 'tens',
      read: living => {
        for (const one of living)
          for (const id of one.members.keys()) {
            counted.set(id, (counted.get(id) ?? 0) + 10);
            tally.add(one, id, Float64Array.of(counted.get(id) ?? 0));
          }
      },
      samples: living => [
        {
          metric: 'sculptor.task.migrations',
          start: living.start,
          value: tally.of(living)[0] ?? 0,
        },
      ],
      host: () => [{ metric: 'sculptor.agent.map.entries', value: 7 }],
      lost: () => ({ full: 3 }),
      forget: gone => {
        for (const [id, living] of gone)
          if (living) tally.add(living, id, Float64Array.of(late.get(id) ?? 0));
        tally.forget(gone.keys());
      },
      stop: () => undefined,
    }),
  };
}

test('a source is read once for each export of details, and what it knew at the end of a life is told', async t => {
  const late = new Map<number, number>();
  const agent = stageRounds(t, {
    config: { detailIntervalSeconds: 2, profile: 'full' },
    kinds: [sourceOfTens(late)],
  });
  const id = agent.add('/a');
  late.set(id, 35);
  await agent.read(25);
  const values = () => agent.valuesOf('sculptor.task.migrations', '/a').map(p => p.value);
  t.deepEqual(values(), [10, 20]);
  agent.remove('/a');
  await agent.read(20);
  t.is(values().at(-1), 35);
  t.is(agent.rounds.status().lost['tens_full'], 3);
  t.is(agent.valuesOf('sculptor.agent.source.available', 'h')[0]?.value, 1);
});

test('settings that change hold from the next reading on, and no series falls or begins anew', async t => {
  const agent = stageRounds(t, { config: { detailIntervalSeconds: 2 } });
  agent.add('/a', { used: 0.5, wait: 0.01 });
  await agent.read(21);
  const migrations = () => agent.valuesOf('sculptor.cpu.migrations', '/a').length;
  t.is(migrations(), 2);
  agent.change({ profile: 'minimal', headlineIntervalSeconds: 0.2, detailIntervalSeconds: 1 });
  const headlines = agent.valuesOf('container.cpu.time', '/a').length;
  await agent.read(10);
  t.is(agent.valuesOf('container.cpu.time', '/a').length - headlines, 10);
  t.is(migrations(), 2, 'not in the minimal profile');
  t.is(agent.valuesOf('sculptor.runqueue.latency', '/a').length, 4);
  t.true(agent.valuesOf('sculptor.agent.events', 'h').length === 4, 'nor what it says of itself');
  agent.change({ profile: 'default', histograms: 'exponential' });
  await agent.read(10);
  t.is(migrations(), 4);
  const points = agent.valuesOf('container.cpu.time', '/a');
  const values = points.map(({ value }) => Number(value));
  t.deepEqual(
    values,
    [...values].sort((a, b) => a - b),
  );
  t.is(new Set(points.map(({ start }) => start)).size, 1);
  const shapes = agent.valuesOf('sculptor.runqueue.latency', '/a').map(({ value }) => value);
  t.true('bounds' in Object(shapes[0]) && 'scale' in Object(shapes.at(-1)));
});

test('a profile has the numbers of the export of the same reading', async t => {
  const agent = stageRounds(t, { config: { detailIntervalSeconds: 2, profileWindowSeconds: 4 } });
  agent.add('/a', { used: 0.5, wait: 0.25 });
  t.is(agent.profiles.of('/a'), null);
  await agent.read(51);
  const profile = profileSchema.parse(agent.profiles.of('/a'));
  t.deepEqual(agent.profiles.all(), [profile]);
  t.is(profile.windowSeconds.toFixed(3), '4.000');
  const exported = agent.exports.findLast(({ resources }) =>
    JSON.stringify(resources).includes('sculptor.runqueue.latency'),
  );
  const told = exported?.resources
    .filter(each => each.resource['sculptor.instance.id'] === '/a')
    .flatMap(({ points }) => points)
    .map(({ metric, attributes, value }) => [
      metric,
      attributes,
      typeof value === 'number' ? value : value.count,
    ]);
  t.deepEqual(
    profile.series.map(series => [
      series.metric,
      series.attributes,
      series.type === 'gauge'
        ? series.value
        : series.type === 'counter'
          ? series.total
          : series.total.count,
    ]),
    told,
  );
  const wait = profile.series.find(({ metric }) => metric === 'sculptor.runqueue.wait');
  t.is(wait?.type === 'counter' && wait.perSecond?.toFixed(6), '0.250000');
});

for (const [what, setBy, slept] of [
  ['the clock is set back by nine seconds', -9, 0],
  ['the clock is set ahead by an hour', 3600, 0],
  ['the machine was suspended for an hour', 3600, 3600],
] as const)
  test(`when ${what}, no time goes back, no start moves, and none is after its point`, async t => {
    const agent = stageRounds(t, { config: { detailIntervalSeconds: 1 } });
    const ticks = (seconds: number) =>
      Math.round((agent.clock.unixSeconds() - 1.6e9 + seconds) * 100);
    const cgroupId = agent.add('/a', { used: 0.5, wait: 0.5 });
    const task = { ...idleTask, cgroupId, tid: 5, tgid: 5, runNs: 1, startTicks: ticks(0.5) };
    agent.setTasks([task]);
    await agent.read(20);
    // The ticks that the kernel tells go on while the machine is suspended, and the time of boot stays.
    const later = { ...task, tid: 6, startTicks: ticks(slept - 0.05) };
    agent.clock.setWall(setBy);
    agent.tree.write({ 'proc/stat': `cpu0 1 1 1 500 0 0 0 50\nbtime ${1.6e9 + setBy - slept}` });
    agent.setTasks([task, later]);
    agent.add('/b', { used: 0.5, wait: 0.5 });
    await agent.read(20);
    const points = agent.exports.flatMap(({ resources }) =>
      resources.flatMap(({ resource, points }) =>
        points.map(point => ({
          series: JSON.stringify([
            resource['sculptor.instance.id'],
            point.metric,
            point.attributes,
          ]),
          ...point,
        })),
      ),
    );
    const series = Map.groupBy(points, point => point.series);
    t.true([...series.keys()].some(key => key.includes('"thread.id":6')));
    for (const [name, all] of series) {
      t.is(new Set(all.map(({ start }) => start)).size, 1, name);
      for (const [i, { start, time }] of all.entries()) {
        t.true(start <= time, `${name}: ${start} … ${time}`);
        t.true(i === 0 || time > (all[i - 1]?.time ?? 0), name);
      }
    }
    const times = agent.valuesOf('container.cpu.time', '/a').map(({ time }) => time);
    t.true(Math.abs((times.at(-1) ?? 0) - agent.clock.unixSeconds()) < 1);
  });
