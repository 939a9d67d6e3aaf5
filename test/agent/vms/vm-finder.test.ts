import test from 'ava';
import { taskFiles } from '../../linux/tree.ts';
import { idleTask } from '../support/changed-task.ts';
import { stageRounds } from '../support/rounds-stage.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

type Stage = ReturnType<typeof stageRounds>;

/** The files of a cgroup that these QEMUs are in, each with one thread. */
function qemusIn(path: string, tgids: readonly number[], args: readonly string[] = []) {
  const task = { name: 'kvm', cmdline: ['/usr/bin/kvm', ...args], cgroup: `0::${path}` };
  return {
    [`cgroup${path}/cgroup.procs`]: tgids.join('\n'),
    [`cgroup${path}/cgroup.threads`]: tgids.join('\n'),
    ...Object.assign({}, ...tgids.map(tgid => taskFiles(tgid, task))),
  };
}

const kindsOf = (agent: Stage, id: string) =>
  agent.placements(id).map(({ instance, alive }) => [instance.kind, instance.name, alive]);

const unknown = (agent: Stage) =>
  Object.fromEntries(
    agent
      .valuesOf('sculptor.agent.vms.unknown', 'h')
      .slice(-3)
      .map(({ attributes, value }) => [attributes['sculptor.reason'], value]),
  );

test('a QEMU with a UUID for SMBIOS alone, as Proxmox starts it, is the VM of that UUID', async t => {
  const agent = stageRounds(t);
  const args = ['-id', '8006', '-name', 'simple', '-smbios', `type=1,uuid=${uuid}`];
  agent.add('/qemu.slice/8006.scope', undefined, qemusIn('/qemu.slice/8006.scope', [5], args));
  await agent.read(60);
  t.deepEqual(kindsOf(agent, uuid)[0], ['vm', 'simple', true]);
  t.deepEqual(agent.placements('/qemu.slice/8006.scope'), []);
  t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 0 });
});

test('a QEMU without a UUID is a VM by its cgroup, from the beginning', async t => {
  const agent = stageRounds(t);
  agent.add('/vm', { used: 0.5, wait: 0 }, qemusIn('/vm', [5]));
  await agent.read(60);
  t.true(agent.placements('/vm').length > 0);
  for (const one of kindsOf(agent, '/vm')) t.deepEqual(one, ['vm', 'vm', true]);
  t.is(Number(agent.valuesOf('container.cpu.time', '/vm').at(-1)?.value).toFixed(6), '5.600000');
  t.is(agent.rounds.status().instances, 1);
});

test('one that enters a known cgroup ends what that was, and is a VM of the same id', async t => {
  const agent = stageRounds(t);
  agent.add('/vm', { used: 0.5, wait: 0 });
  await agent.read(3);
  agent.tree.write(qemusIn('/vm', [5], ['-name', 'web']));
  await agent.read(60);
  t.deepEqual(kindsOf(agent, '/vm').slice(0, 3), [
    ['cgroup', 'vm', true],
    ['cgroup', 'vm', false],
    ['vm', 'web', true],
  ]);
  t.true(
    kindsOf(agent, '/vm')
      .slice(2)
      .every(([kind]) => kind === 'vm'),
  );
  // It begins with the reading at which it was found.
  const points = agent.valuesOf('container.cpu.time', '/vm');
  const [first, last] = [points[0], points.at(-1)];
  t.true(Number(last?.start) > Number(first?.start));
  t.is(agent.rounds.status().instances, 1);
});

test('50 QEMUs in one cgroup are no VMs, which is counted, and said in one line', async t => {
  const agent = stageRounds(t);
  const many = Array.from({ length: 50 }, (_, i) => 100 + i);
  agent.add('/user.slice', undefined, qemusIn('/user.slice', many));
  agent.add('/two', undefined, qemusIn('/two', [60, 61]));
  await agent.read(1200);
  t.deepEqual(unknown(agent), { shared_cgroup: 52, root_cgroup: 0, taken_uuid: 0 });
  t.true(kindsOf(agent, '/user.slice').every(([kind]) => kind === 'cgroup'));
  t.is(agent.said.length, 1, agent.said.join('\n'));
  t.regex(
    agent.said[0] ?? '',
    /^agent: \/(user\.slice|two): QEMUs in this cgroup: (50|2); .*systemd-run --scope/,
  );

  agent.tree.write({ 'cgroup/two/cgroup.procs': '60', 'cgroup/two/cgroup.threads': '60' });
  await agent.read(600);
  t.deepEqual(unknown(agent), { shared_cgroup: 50, root_cgroup: 0, taken_uuid: 0 });
  t.deepEqual(kindsOf(agent, '/two').at(-1), ['vm', 'two', true]);

  agent.tree.write({
    'cgroup/user.slice/cgroup.procs': '70',
    'cgroup/user.slice/cgroup.threads': '70',
    ...taskFiles(70),
  });
  await agent.read(600);
  t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 0 });
});

test('a QEMU that is two until it has become a daemon is not complained of', async t => {
  const agent = stageRounds(t);
  agent.add('/vm', undefined, qemusIn('/vm', [5, 6], ['-daemonize']));
  await agent.read(10);
  t.is(agent.rounds.status().instances, 1);
  agent.tree.write({ 'cgroup/vm/cgroup.procs': '6', 'cgroup/vm/cgroup.threads': '6' });
  await agent.read(600);
  t.deepEqual(kindsOf(agent, '/vm').at(-1), ['vm', 'vm', true]);
  t.deepEqual(agent.said, []);
});

test('a QEMU in the root is no VM, which is counted and said', async t => {
  const agent = stageRounds(t);
  agent.add('/', undefined, qemusIn('/', [5]));
  await agent.read(1200);
  t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 1, taken_uuid: 0 });
  t.is(agent.said.length, 1);
});

test('also behind more threads of the kernel than are looked at', async t => {
  const agent = stageRounds(t);
  const kernels = Array.from({ length: 300 }, (_, i) => 100 + i);
  const all = [...kernels, 1000].join('\n');
  const kthread = { name: 'kworker/0:0', cmdline: [], cgroup: '0::/' };
  const files = {
    ...qemusIn('/', [1000]),
    ...Object.assign({}, ...kernels.map(tid => taskFiles(tid, kthread))),
    'cgroup/cgroup.procs': all,
    'cgroup/cgroup.threads': all,
  };
  const cgroupId = agent.add('/', undefined, files);
  agent.setTasks([{ ...idleTask, cgroupId, tid: 1000, tgid: 1000, name: 'kvm', runNs: 1e9 }]);
  await agent.read(600);
  // It is told still when it rests.
  agent.setTasks([]);
  await agent.read(600);
  t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 1, taken_uuid: 0 });
  t.is(agent.said.length, 1);
  agent.tree.write({ 'cgroup/cgroup.procs': kernels.join('\n') });
  await agent.read(600);
  t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 0 });
});

/** The files of a cgroup that this task alone is in now, which is no QEMU. */
const onlyIn = (path: string, tid: number) => ({
  [`cgroup${path}/cgroup.procs`]: `${tid}`,
  [`cgroup${path}/cgroup.threads`]: `${tid}`,
  ...taskFiles(tid),
});

test('where a QEMU has ended and others run on, the VM ends and its cgroup is one again', async t => {
  const agent = stageRounds(t);
  agent.add('/ci', { used: 0.5, wait: 0 }, qemusIn('/ci', [5], ['-uuid', uuid]));
  await agent.read(300);
  agent.tree.write(onlyIn('/ci', 6));
  await agent.read(20);
  t.deepEqual(kindsOf(agent, '/ci'), [], 'it may be started again');
  await agent.read(600);
  t.deepEqual(kindsOf(agent, uuid).at(-1), ['vm', uuid, false]);
  t.deepEqual(kindsOf(agent, '/ci').at(-1), ['cgroup', 'ci', true]);
  t.is(agent.rounds.status().instances, 1);
  // Nothing is told twice: what one has the other has not.
  const [vm, cgroup] = [uuid, '/ci'].map(id => agent.valuesOf('container.cpu.time', id));
  t.true(Number(cgroup?.[0]?.start) >= Number(vm?.at(-1)?.at));
  const sum = Number(vm?.at(-1)?.value) + Number(cgroup?.at(-1)?.value);
  t.true(Math.abs(sum - 0.5 * 0.2 * 920) < 0.5 * 1.2, `${sum}`);

  agent.tree.write(qemusIn('/ci', [7], ['-uuid', uuid]));
  await agent.read(600);
  t.deepEqual(kindsOf(agent, '/ci').at(-1), ['cgroup', 'ci', false]);
  t.deepEqual(kindsOf(agent, uuid).at(-1), ['vm', uuid, true]);
});

test('a VM that is switched off, or started anew, stays one', async t => {
  const agent = stageRounds(t);
  agent.add('/vm', undefined, qemusIn('/vm', [5]));
  await agent.read(300);
  agent.tree.write({ 'cgroup/vm/cgroup.procs': '', 'cgroup/vm/cgroup.threads': '' });
  await agent.read(600);
  // The script that starts it again, twice.
  for (const qemu of [7, 8]) {
    agent.tree.write(onlyIn('/vm', 6));
    await agent.read(20);
    agent.tree.write(qemusIn('/vm', [qemu]));
    await agent.read(600);
  }
  for (const one of kindsOf(agent, '/vm')) t.deepEqual(one, ['vm', 'vm', true]);
});

test('a VM whose QEMU is behind more processes than are looked at stays one', async t => {
  const agent = stageRounds(t);
  agent.add('/vm', undefined, qemusIn('/vm', [1000]));
  await agent.read(300);
  const others = Array.from({ length: 300 }, (_, i) => 100 + i);
  const all = [...others, 1000].join('\n');
  agent.tree.write({
    ...Object.assign({}, ...others.map(tid => taskFiles(tid))),
    'cgroup/vm/cgroup.procs': all,
    'cgroup/vm/cgroup.threads': all,
  });
  await agent.read(1200);
  for (const one of kindsOf(agent, '/vm')) t.deepEqual(one, ['vm', 'vm', true]);
  t.true(agent.placements('/vm').some(({ taskCount }) => taskCount === 301));
});

const scope = '/machine.slice/machine-qemu-1-web.scope';
const container = `/docker/${'a'.repeat(64)}`;

/** Cores of an instance between the last exports. */
const coresOf = (agent: Stage, id: string): string => {
  const [from, to] = agent.valuesOf('container.cpu.time', id).slice(-2);
  if (!from || !to) return 'none';
  return ((Number(to.value) - Number(from.value)) / (to.at - from.at)).toFixed(2);
};

for (const [first, second] of [
  [scope, container],
  [container, scope],
] as const)
  test(`a QEMU in ${second.slice(0, 8)} that says it is a VM that runs is no VM, and not a part of that one`, async t => {
    const agent = stageRounds(t);
    const qemu = (tgid: number, path: string) => qemusIn(path, [tgid], ['-uuid', uuid]);
    agent.add(first, { used: 0.5, wait: 0 }, qemu(5, first));
    await agent.read(20);
    agent.add(second, { used: 1, wait: 0 }, qemu(6, second));
    await agent.read(1200);
    t.is(coresOf(agent, uuid), '0.50');
    t.is(coresOf(agent, second), '1.00');
    t.is(agent.placements(uuid).at(-1)?.cgroup.path, first);
    t.not(agent.placements(second).at(-1)?.instance.kind, 'vm');
    t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 1 });
    t.is(agent.said.length, 1, agent.said.join('\n'));
    t.regex(agent.said[0] ?? '', new RegExp(`^agent: ${second}: a QEMU .* ${uuid}, .* ${first} `));

    // Where the first has ended, and others run on, the second is that VM, elsewhere.
    agent.tree.write(onlyIn(first, 7));
    agent.tree.remove('proc/5');
    await agent.read(600);
    t.is(coresOf(agent, uuid), '1.00');
    t.is(coresOf(agent, first), '0.50');
    t.deepEqual(agent.placements(uuid).at(-1)?.cgroup.path, second);
    t.true(agent.placements(uuid).at(-1)?.alive);
    t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 0 });
    t.is(agent.rounds.status().instances, 2);
  });

test('one QEMU whose threads are in cgroups beside one another is one VM', async t => {
  const agent = stageRounds(t);
  for (const path of ['/web/emulator', '/web/vcpu0'])
    agent.add(path, { used: 0.5, wait: 0 }, qemusIn(path, [5], ['-uuid', uuid]));
  await agent.read(600);
  t.is(agent.rounds.status().instances, 1);
  t.is(coresOf(agent, uuid), '1.00');
  t.deepEqual(unknown(agent), { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 0 });
});
