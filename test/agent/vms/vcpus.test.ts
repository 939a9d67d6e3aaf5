import { createServer } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { emptyTotals } from '../../../src/agent/instances/add-change.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { createVcpuBook } from '../../../src/agent/vms/vcpus.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { vcpuOf } from '../../../src/linux/vcpus.ts';
import { makeTree, mounts, taskFiles } from '../../linux/tree.ts';
import { until } from '../../support/sockets.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

/** A host with one VM in /vm, whose QEMU is process 50, or another, with these threads. */
function host(t: ExecutionContext, names: Record<number, string>, args: string[] = [], tgid = 50) {
  const cmdline = ['qemu-system-x86_64', '-uuid', uuid, ...args];
  const threads = Object.entries(names).flatMap(([tid, name]) => [
    [`proc/${tgid}/task/${tid}/`, ''],
    ...Object.entries(taskFiles(Number(tid), { name, tgid, cmdline })),
  ]);
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    'cgroup/vm/cgroup.procs': `${tgid}`,
    ...Object.fromEntries(threads),
  });
  const said: string[] = [];
  const book = createVcpuBook({
    roots,
    layout: readCgroupLayout(roots),
    intervalSeconds: 60,
    clock: steppedClock(),
    say: (_, message) => void said.push(message),
  });
  const living: LivingInstance = {
    instance: { id: uuid, kind: 'vm', name: 'web' },
    path: '/vm',
    members: new Map([[7, '/vm']]),
    start: 0,
    totals: emptyTotals(),
    window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
  };
  return { roots, book, living, said };
}

test('vCPUs are known by the names that QEMU gives their threads', t => {
  const names = { 50: 'qemu-system-x86', 51: 'CPU 0/KVM', 52: 'CPU 1/KVM', 53: 'IO mon_iothread' };
  const { roots, book, living } = host(t, names);
  t.deepEqual(book.look([living], 0), [living]);
  t.deepEqual(
    [...book.of(living)],
    [
      [51, 0],
      [52, 1],
    ],
  );
  t.deepEqual(
    book.all().map(({ tid, index }) => [tid, index]),
    [
      [51, 0],
      [52, 1],
    ],
  );
  t.deepEqual(book.look([living], 1), [], 'nothing has changed');

  roots.write({ 'proc/50/task/54/': '', ...taskFiles(54, { name: 'CPU 2/KVM', tgid: 50 }) });
  t.deepEqual(book.look([living], 59), []);
  t.deepEqual(book.look([living], 61), [living], 'one was plugged in');
  t.is(book.of(living).get(54), 2);
  book.look([], 62);
  t.deepEqual(book.all(), []);
});

test('a QEMU that names no threads is asked over QMP', async t => {
  // Who listens is this process, and nobody else may be asked in its place.
  const { pid } = process;
  const args = ['-qmp', 'unix:/q.sock,server=on'];
  const { roots, book, living } = host(t, { [pid]: 'qemu', 51: 'qemu', 52: 'qemu' }, args, pid);
  roots.write({ [`proc/${pid}/root/`]: '' });
  const server = createServer(socket => {
    socket.write('{"QMP": {}}\n');
    socket.on('data', chunk => {
      const { id } = JSON.parse(`${chunk}`) as { id: string };
      const cpus = [
        { 'cpu-index': 1, 'thread-id': 51 },
        { 'cpu-index': 0, 'thread-id': 52 },
        { 'cpu-index': 2, 'thread-id': 99 },
      ];
      socket.write(`${JSON.stringify({ return: id === 'query-cpus-fast' ? cpus : {}, id })}\n`);
    });
  });
  await new Promise<void>(resolve => server.listen(`${roots.proc}/${pid}/root/q.sock`, resolve));
  t.teardown(() => server.close());
  t.deepEqual(book.look([living], 0), []);
  await until(() => book.of(living).size > 0);
  t.deepEqual(
    [...book.of(living)],
    [
      [51, 1],
      [52, 0],
    ],
  );
  t.deepEqual(book.look([living], 0.2), [living]);
  t.deepEqual(book.unknown(), { no_qemu: 0, no_names_no_qmp: 0, qmp_silent: 0, qmp_foreign: 0 });
});

test('a QEMU with neither is explained once, and counted', t => {
  const { book, living, said } = host(t, { 50: 'qemu', 51: 'qemu' });
  for (let now = 0; now < 600; now += 1) book.look([living], now);
  t.is(book.unknown().no_names_no_qmp, 1);
  t.deepEqual(said, [
    'agent: web: its vCPUs are not known: QEMU names no threads (-name …,debug-threads=on) and has no QMP socket (-qmp unix:…) (sculptor.agent.vcpus.unknown counts such VMs)',
  ]);
});

test('a QEMU with neither is known as KVM tells it, and by itself where it tells', t => {
  const { roots, book, living, said } = host(t, { 50: 'qemu', 51: 'qemu', 52: 'qemu' });
  book.look([living], 0);
  book.learn(
    living,
    50,
    new Map([
      [52, 1],
      [51, 0],
      [99, 2],
    ]),
  );
  t.deepEqual(book.look([living], 1), [living]);
  t.deepEqual(
    [...book.of(living)],
    [
      [51, 0],
      [52, 1],
    ],
  );
  t.is(book.unknown().no_names_no_qmp, 0);
  for (let now = 2; now < 600; now += 1) book.look([living], now);
  t.deepEqual(said, []);
  roots.write(taskFiles(52, { name: 'CPU 7/KVM', tgid: 50 }));
  book.look([living], 700);
  book.learn(living, 50, new Map([[51, 0]]));
  t.deepEqual([...book.of(living)], [[52, 7]]);
});

test('a QMP socket that does not answer leaves what was known', async t => {
  const names = { 50: 'qemu', 51: 'CPU 0/TCG' };
  const { roots, book, living } = host(t, names, ['-qmp', 'unix:/gone.sock,server=on']);
  book.look([living], 0);
  roots.write(taskFiles(51, { name: 'renamed', tgid: 50 }));
  book.look([living], 61);
  await until(() => book.look([living], 62).length === 0);
  t.is(book.of(living).get(51), 0);
  roots.remove('cgroup/vm/cgroup.procs');
  book.look([living], 200);
  t.is(book.of(living).size, 0, 'its QEMU has ended');
  t.is(book.unknown().no_qemu, 1);
});

test('the name of a vCPU thread is of KVM or TCG', t => {
  t.is(vcpuOf('CPU 12/TCG'), 12);
  t.is(vcpuOf('CPU 0/KVM'), 0);
  t.is(vcpuOf('CPU 12'), null);
});
