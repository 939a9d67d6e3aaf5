import { mkdirSync, readlinkSync, symlinkSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { createVsockGuests } from '../../src/linux/vsock-guests.ts';
import { steppedClock } from '../support/stepped-clock.ts';
import { makeTree, mounts, type Tree, taskFiles } from './tree.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';
const other = '2b671a64-40d5-491e-99b0-da01ff1f3341';

type Qemu = { id?: string; device?: string; startTicks?: number; holds?: string };

function addQemu(tree: Tree, tgid: number, qemu: Qemu = {}): void {
  const { id = uuid, device = 'vhost-vsock-pci,id=v,guest-cid=5', startTicks = 100 } = qemu;
  const cmdline = ['qemu-system-x86_64', '-name', 'web', '-uuid', id, '-device', device];
  tree.write(taskFiles(tgid, { tgid, startTicks, cmdline }));
  mkdirSync(`${tree.proc}/${tgid}/fd`, { recursive: true });
  symlinkSync(qemu.holds ?? '/dev/vhost-vsock', `${tree.proc}/${tgid}/fd/12`);
  symlinkSync('/dev/null', `${tree.proc}/${tgid}/fd/0`);
}

/** Stands for the number of the device, which files of a test do not have. */
const isDevice = (path: string): boolean => readlinkSync(path) === '/dev/vhost-vsock';

function host(t: ExecutionContext) {
  const tree = makeTree(t, { 'proc/self/': '', 'proc/1/cmdline': 'init' });
  const clock = steppedClock();
  return { tree, clock, find: createVsockGuests(tree, clock, isDevice).find };
}

const web = { id: uuid, kind: 'vm', name: 'web' } as const;

const found = test.macro((t, device: string, cid: number, wanted: boolean) => {
  const { tree, find } = host(t);
  addQemu(tree, 50, { device });
  t.deepEqual(find(cid), wanted ? web : null);
});
test('a context id is found among the arguments', found, 'vhost-vsock-pci,guest-cid=5', 5, true);
test(
  'so it is as libvirt writes it',
  found,
  '{"driver":"vhost-vsock-pci","guest-cid":5,"vhostfd":"28"}',
  5,
  true,
);
test('another context id is of nobody', found, 'vhost-vsock-pci,guest-cid=55', 5, false);
test('another device has none', found, 'virtio-net-pci,guest-cid=5', 5, false);
test('the host’s own is nobody’s', found, 'vhost-vsock-pci,guest-cid=2', 2, false);

test('arguments without the device itself are only words', t => {
  const { tree, find } = host(t);
  addQemu(tree, 50, { holds: '/dev/kvm' });
  t.is(find(5), null);
});

test('a file that only has the device’s name is not the device', t => {
  const { tree, clock } = host(t);
  const holds = `${tree.proc}/vhost-vsock`;
  symlinkSync('/dev/null', holds);
  addQemu(tree, 50, { holds });
  t.is(createVsockGuests(tree, clock).find(5), null);
});

test('of two that say so it is neither', t => {
  const { tree, find } = host(t);
  addQemu(tree, 50);
  addQemu(tree, 60, { id: other });
  t.is(find(5), 'several QEMUs say that it is theirs');
});

test('of two that say they are one VM it is neither, also where one of them has no such device', t => {
  const { tree, find, clock } = host(t);
  addQemu(tree, 50);
  addQemu(tree, 60, { device: 'vhost-vsock-pci,guest-cid=6' });
  const why = /^several QEMUs say that they are one VM \(50, 60\): wanted/;
  t.regex(String(find(5)), why);
  t.regex(String(find(6)), why);
  tree.write(taskFiles(60, { cmdline: ['/tmp/kvm', '-uuid', uuid] }));
  clock.step(5);
  t.regex(String(find(5)), why);
  tree.remove('proc/60');
  clock.step(5);
  t.deepEqual(find(5), web);
});

test('a VM without a UUID is known where no other QEMU shares its cgroup', t => {
  const { tree, find, clock } = host(t);
  const addPlain = (tgid: number, args: string[]) => {
    addQemu(tree, tgid);
    const cmdline = ['kvm', '-name', 'db', ...args];
    tree.write(taskFiles(tgid, { startTicks: tgid, cmdline, cgroup: '0::/vms' }));
  };
  tree.write({
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    'cgroup/vms/cgroup.procs': '50',
  });
  addPlain(50, ['-device', 'vhost-vsock-pci,guest-cid=5']);
  t.deepEqual(find(5), { id: '/vms', kind: 'vm', name: 'db' });
  // What the guest of 60 says would be taken for what that of 50 says, were it not for both to be refused.
  tree.write({ 'cgroup/vms/cgroup.procs': '50\n60' });
  addPlain(60, ['-device', 'vhost-vsock-pci,guest-cid=6']);
  clock.step(5);
  t.regex(String(find(6)), /^its QEMU \(60\) has no UUID, and is not alone in its cgroup: wanted/);
  t.regex(String(find(5)), /^its QEMU \(50\) has no UUID/);
  tree.write({ 'cgroup/vms/cgroup.procs': '60' });
  clock.step(5);
  t.is(Object(find(6)).id, '/vms', 'it is looked for again');
});

test('when a VM has ended its context id is no longer its own, and the next one has it', t => {
  const { tree, find, clock } = host(t);
  addQemu(tree, 50);
  t.deepEqual(find(5), web);
  tree.remove('proc/50');
  clock.step(5);
  t.is(find(5), null);
  addQemu(tree, 60, { id: other });
  clock.step(5);
  t.deepEqual(find(5), { ...web, id: other });
});

test('a process that has the tid of one that ended is another', t => {
  const { tree, find } = host(t);
  addQemu(tree, 50);
  t.deepEqual(find(5), web);
  tree.remove('proc/50');
  addQemu(tree, 50, { id: other, startTicks: 200 });
  t.is(find(5), null, 'not before the processes are looked at again');
});

test('whoever is unknown makes all processes be looked at once a second', t => {
  const { tree, find, clock } = host(t);
  t.is(find(5), null);
  addQemu(tree, 50);
  t.is(find(5), null);
  clock.step(1);
  t.deepEqual(find(5), web);
});
