import test from 'ava';
import { topologySchema } from '../../src/contract/host.ts';
import { readHostId } from '../../src/linux/host-id.ts';
import { readCpuIds, readTopology } from '../../src/linux/topology.ts';
import { makeTree, mounts } from './tree.ts';

const cpu = (id: number, core: number, l3: string) => ({
  [`sys/devices/system/cpu/cpu${id}/topology/core_id`]: String(core),
  [`sys/devices/system/cpu/cpu${id}/topology/physical_package_id`]: '0',
  [`sys/devices/system/cpu/cpu${id}/cache/index0/level`]: '1',
  [`sys/devices/system/cpu/cpu${id}/cache/index0/shared_cpu_list`]: String(id),
  [`sys/devices/system/cpu/cpu${id}/cache/index3/level`]: '3',
  [`sys/devices/system/cpu/cpu${id}/cache/index3/shared_cpu_list`]: l3,
});
const base = {
  'proc/self/mountinfo': mounts.v2,
  'cgroup/cgroup.controllers': 'cpuset cpu',
  'proc/sys/kernel/osrelease': '6.12.0',
  'sys/devices/system/cpu/possible': '0-3',
  'sys/devices/system/cpu/present': '0-3',
  'sys/devices/system/cpu/online': '0-2',
};

test('cores, last-level caches, nodes and what is offline', t => {
  const roots = makeTree(t, {
    ...base,
    ...cpu(0, 0, '0-1'),
    ...cpu(1, 0, '0-1'),
    ...cpu(2, 1, '2-3'),
    'sys/devices/system/node/node0/cpulist': '0-1',
    'sys/devices/system/node/node0/distance': '10 21',
    'sys/devices/system/node/node0/meminfo':
      'Node 0 MemTotal:  1024 kB\nNode 0 MemFree:  512 kB\nNode 0 MemUsed: 512 kB',
    'sys/devices/system/node/node1/cpulist': '2',
    'sys/devices/system/cpu/cpu3/node1/cpulist': '2',
    'sys/devices/system/node/node1/distance': '21 10',
    'sys/devices/system/node/node1/meminfo': 'Node 1 MemTotal: 2048 kB\nNode 1 MemFree: 1 kB',
    'sys/devices/system/node/possible': '0-1',
  });
  const topology = topologySchema.parse(readTopology(roots, 'h'));
  t.deepEqual(topology.cpus, [
    { id: 0, online: true, core: 0, package: 0, llc: 0, node: 0 },
    { id: 1, online: true, core: 0, package: 0, llc: 0, node: 0 },
    { id: 2, online: true, core: 1, package: 0, llc: 2, node: 1 },
    // Offline: the kernel shows no topology of it, and no node lists it.
    { id: 3, online: false, core: 3, package: 0, llc: 3, node: 1 },
  ]);
  t.deepEqual(topology.nodes[1], {
    id: 1,
    distances: [21, 10],
    memoryTotalBytes: 2048 * 1024,
    memoryFreeBytes: 1024,
  });
  t.is(topology.kernel, '6.12.0');
  t.deepEqual(readCpuIds(roots), { possible: [0, 1, 2, 3], online: [0, 1, 2] });
});

test('a kernel without NUMA has one node with all memory', t => {
  const roots = makeTree(t, {
    ...base,
    'proc/meminfo': 'MemTotal:       4096 kB\nMemFree:        1024 kB',
  });
  const { nodes, cpus } = readTopology(roots, 'h');
  t.deepEqual(nodes, [
    { id: 0, distances: [10], memoryTotalBytes: 4_194_304, memoryFreeBytes: 1_048_576 },
  ]);
  t.true(cpus.every(each => each.node === 0));
});

test('the host is named by its machine id, else by the firmware, else by its name', t => {
  const roots = makeTree(t, {
    'sys/class/dmi/id/product_uuid': 'ABCD-1',
    'sys/machine-id': 'm1',
    'sys/empty': '',
  });
  t.is(readHostId(roots, `${roots.sys}/machine-id`), 'm1');
  t.is(readHostId(roots, `${roots.sys}/empty`), 'abcd-1');
  t.not(readHostId(makeTree(t, {}), `${roots.sys}/none`), '');
});
