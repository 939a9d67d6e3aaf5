import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Move } from '../../../src/contract/recommendation.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { cpusetActuator, keepsOwnMasks } from '../../../src/sculptor/actuators/cpuset.ts';
import type { Kernel } from '../../../src/sculptor/kernel.ts';
import { makeTree, mounts, taskFiles } from '../../linux/tree.ts';

const move: Move = {
  instance: { id: '/a', kind: 'cgroup', name: 'a' },
  tasks: [],
  set: { cpus: [2, 3] },
};

test('a cpuset of v1 that lost a CPU which went offline is ours still, and gets back what of its old one is online', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v1,
    'sys/devices/system/cpu/online': '0-3',
    'cgroup/cpu,cpuacct/a/tasks': '11',
    'cgroup/cpuset/a/tasks': '11',
    'cgroup/cpuset/a/cpuset.cpus': '0-3',
    ...taskFiles(11, { cgroup: '2:cpuset:/a' }),
  });
  const kernel = { roots, layout: readCgroupLayout(roots) } as unknown as Kernel;
  const cpus = () => readFileSync(join(roots.cgroup, 'cpuset/a/cpuset.cpus'), 'utf8').trim();
  const { entries } = cpusetActuator.snapshot(kernel, move);
  cpusetActuator.apply(kernel, entries);
  t.is(cpus(), '2-3');
  roots.write({ 'sys/devices/system/cpu/online': '0-2', 'cgroup/cpuset/a/cpuset.cpus': '2' });
  t.true(cpusetActuator.readBack(kernel, entries)[0]?.ours);
  t.is(cpusetActuator.undo(kernel, entries, entries)[0]?.state, 'restored');
  t.is(cpus(), '0-2');
});

test('before Linux 6.2 a cpuset is not written where a thread in a cgroup below has a mask of its own', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu cpuset',
    'cgroup/a/cgroup.threads': '11',
    'cgroup/a/cpuset.cpus': '',
    'cgroup/a/cpuset.cpus.effective': '0-3',
    'cgroup/a/b/cgroup.threads': '12',
  });
  const keeps = (below: number[]) =>
    keepsOwnMasks(
      {
        ...{ roots, layout: readCgroupLayout(roots), ownMasks: () => new Map() },
        native: { getAffinity: (tid: number) => (tid === 12 ? below : [0, 1, 2, 3]) },
      } as unknown as Kernel,
      move,
    );
  t.true(keeps([0, 1, 2, 3]));
  t.false(keeps([1]));
});
