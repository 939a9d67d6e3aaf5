import test from 'ava';
import { type Owner, placementSchema } from '../../src/contract/host.ts';
import type { Instance } from '../../src/contract/instance.ts';
import { readCgroupLayout } from '../../src/linux/cgroups.ts';
import { instanceAt } from '../../src/linux/instance-at.ts';
import { findMemoryHierarchy } from '../../src/linux/memory.ts';
import {
  listedTasks,
  ownerOf,
  type PlacementReader,
  readOutline,
  readPlacement,
} from '../../src/linux/placement.ts';
import { makeTree, mounts, type Tree, taskFiles } from './tree.ts';

function readerOf(roots: Tree): PlacementReader {
  return {
    roots,
    layout: readCgroupLayout(roots),
    hostId: 'h',
    systemd: true,
    maskedThreads: () => new Set([5]),
  };
}

const place = (path: string, members = [path], instance: Instance = instanceAt(path)) => ({
  instance,
  path,
  members,
  vcpus: new Map<number, number>(),
});

const v1 = {
  'proc/self/mountinfo': mounts.v1,
  'cgroup/cpu,cpuacct/a/cpu.shares': '1024',
  'cgroup/cpu,cpuacct/a/cpu.idle': '0',
  'cgroup/cpu,cpuacct/a/tasks': '5\n6\n7',
  'cgroup/cpuset/cpuset.effective_cpus': '0-3',
  'cgroup/cpuset/cpuset.cpus': '0-3',
  'cgroup/cpuset/sets/a/cpuset.cpus': '0-1',
  'cgroup/cpuset/sets/a/cpuset.effective_cpus': '0-1',
  'cgroup/cpuset/sets/cpuset.effective_cpus': '0-2',
};
const inSets = { cgroup: '5:cpu,cpuacct:/a\n3:cpuset:/sets/a' };

test('v1: what an instance is given, in both trees, and where its tasks are', t => {
  const roots = makeTree(t, {
    ...v1,
    ...taskFiles(5, { ...inSets, cpu: 1, allowed: '1', startTicks: 77 }),
    ...taskFiles(6, { ...inSets, tgid: 5 }),
  });
  const placement = placementSchema.parse(readPlacement(readerOf(roots), place('/a')));
  t.deepEqual(placement.cgroup, {
    path: '/a',
    parent: '/',
    weight: 100,
    idle: false,
    quotaCores: null,
  });
  t.deepEqual(placement.cpuset, {
    path: '/sets/a',
    own: [0, 1],
    effective: [0, 1],
    parentEffective: [0, 1, 2],
  });
  // Task 7 has ended between the list and the look at it.
  t.is(placement.taskCount, 3);
  t.deepEqual(
    placement.tasks.map(({ tid, tgid, startTicks, affinity, ownMask, cpu }) => [
      tid,
      tgid,
      startTicks,
      affinity,
      ownMask,
      cpu,
    ]),
    [
      [5, 5, 77, [1], true, 1],
      [6, 5, 1000, [0, 1], false, 0],
    ],
  );
});

test('where its memory is comes from the memory controller, and is absent without it', t => {
  const roots = makeTree(t, {
    ...v1,
    'cgroup/memory/a/memory.numa_stat': [
      'total=3 N0=1 N1=2',
      'file=1 N0=1 N1=0',
      'anon=2 N0=0 N1=2',
      'unevictable=0 N0=0 N1=0',
    ].join('\n'),
  });
  const reader = readerOf(roots);
  t.false('bytesByNode' in readPlacement(reader, place('/a')));
  const memory = findMemoryHierarchy(roots);
  const placement = readPlacement({ ...reader, memory }, place('/a'));
  t.deepEqual(placementSchema.parse(placement).bytesByNode, { 0: 4096, 1: 8192 });
  t.false('bytesByNode' in readPlacement({ ...reader, memory }, place('/gone')));
});

test('v1: tasks in several cpusets have none in common, but those of a VM have the one above', t => {
  const roots = makeTree(t, {
    ...v1,
    ...taskFiles(5, { cgroup: '3:cpuset:/sets/a' }),
    ...taskFiles(6, { cgroup: '3:cpuset:/sets/b' }),
  });
  t.is(readOutline(readerOf(roots), place('/a')).cpuset.path, null);
  const vm = { id: 'u', kind: 'vm', name: 'u' } as const;
  t.is(readOutline(readerOf(roots), place('/a', ['/a'], vm)).cpuset.path, '/sets');
});

test('v2: no cpuset where the controller is not enabled, and what binds is known all the same', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu cpuset',
    'cgroup/cpuset.cpus.effective': '0-1',
    'cgroup/a/cpu.weight': '50',
    'cgroup/a/cgroup.threads': '5',
    ...taskFiles(5),
  });
  const { cpuset, cgroup, tasks } = readPlacement(readerOf(roots), place('/a'));
  t.deepEqual(cpuset, { path: null, own: [], effective: [0, 1], parentEffective: [0, 1] });
  t.is(cgroup.weight, 50);
  t.is(tasks.length, 1);
});

test('a VM has the tasks of all its cgroups; those that run vCPUs are named by index', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    'cgroup/vm/emulator/cgroup.threads': '5',
    'cgroup/vm/vcpu1/cgroup.threads': '6',
    ...taskFiles(5, { name: 'qemu-system-x86' }),
    ...taskFiles(6, { name: 'CPU 1/KVM', tgid: 5 }),
  });
  const members = ['/vm/emulator', '/vm/vcpu1'];
  const { tasks } = readPlacement(readerOf(roots), {
    ...place('/vm', members),
    vcpus: new Map([[6, 1]]),
  });
  t.deepEqual(
    tasks.map(task => [task.tid, task.vcpu]),
    [
      [5, undefined],
      [6, 1],
    ],
  );
});

test('of many tasks the hot ones are listed, and all are counted', t => {
  const tids = Array.from({ length: 1000 }, (_, i) => i + 1);
  const roots = makeTree(t, { ...v1, 'cgroup/cpu,cpuacct/a/tasks': tids.join('\n') });
  const outline = readOutline(readerOf(roots), place('/a'), [999, 5000]);
  t.is(outline.taskCount, 1000);
  t.is(outline.tids.length, listedTasks);
  t.true(outline.tids.includes(999));
  t.false(outline.tids.includes(5000), 'a task that left is not listed');
});

test('a cgroup that has vanished has a placement without anything', t => {
  const placement = readPlacement(readerOf(makeTree(t, v1)), place('/gone'));
  t.deepEqual(placement.tasks, []);
  t.is(placement.cgroup.weight, null);
  t.is(placementSchema.parse(placement).taskCount, 0);
});

const owned = test.macro({
  exec: (t, path: string, owner: Owner, systemd: boolean) =>
    t.is(ownerOf({ systemd }, path), owner),
  title: (_, path, owner, systemd) =>
    `${path} belongs to ${owner}${systemd ? ' under systemd' : ''}`,
});
test(owned, '/system.slice/nginx.service', 'systemd', true);
test(owned, '/system.slice/nginx.service', 'none', false);
test(owned, '/system.slice/nginx.service/workers/1', 'systemd', true);
test(owned, '/user.slice/user-0.slice/user@0.service/init.scope', 'systemd', true);
test(owned, '/tenants/a.services/b', 'none', true);
test(owned, '/machine.slice/machine-qemu\\x2d1\\x2dweb.scope', 'libvirt', true);
test(owned, '/machine/qemu-1-web.libvirt-qemu', 'libvirt', false);
test(owned, '/kubepods.slice/kubepods-pod1.slice', 'container-runtime', true);
test(owned, '/system.slice/docker-0123.scope', 'container-runtime', true);
test(owned, '/tenants/a', 'none', true);
