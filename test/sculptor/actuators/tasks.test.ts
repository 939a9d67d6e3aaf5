import test from 'ava';
import type { Instance } from '../../../src/contract/instance.ts';
import type { Move } from '../../../src/contract/recommendation.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { affinityActuator } from '../../../src/sculptor/actuators/affinity.ts';
import { resolveTasks } from '../../../src/sculptor/actuators/tasks.ts';
import type { Kernel } from '../../../src/sculptor/kernel.ts';
import { makeTree, mounts, taskFiles } from '../../linux/tree.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

const isOf = test.macro({
  exec: (t, id: string, kind: Instance['kind'], args: readonly string[], wanted: boolean) => {
    const task = { tgid: 50, cmdline: ['qemu-system-x86_64', ...args] };
    const roots = makeTree(t, {
      'proc/self/mountinfo': mounts.v2,
      'cgroup/cgroup.controllers': 'cpu',
      'cgroup/vm/cgroup.threads': '50',
      'cgroup/vm/vcpus/cgroup.threads': '51',
      'cgroup/other/cgroup.threads': '60',
      ...taskFiles(50, task),
      ...taskFiles(51, task),
    });
    const kernel = { roots, layout: readCgroupLayout(roots), ownMasks: () => new Map() };
    const move: Move = {
      instance: { id, kind, name: 'web' },
      tasks: [{ kind: 'vcpu', index: 0, tid: 51, startTicks: 1000 }],
      set: { cpus: [0] },
    };
    const { threads, problems } = resolveTasks(kernel as unknown as Kernel, move);
    t.deepEqual(
      [threads.map(({ tid }) => tid), problems.map(({ code }) => code)],
      wanted ? [[51], []] : [[], ['not-found']],
    );
  },
  title: (given = '') => `a vCPU in a cgroup of its own ${given}`,
});
test('is of the VM whose UUID its QEMU has', isOf, uuid, 'vm', ['-uuid', uuid], true);
test(
  'is so however the UUID is written',
  isOf,
  uuid,
  'vm',
  ['-smbios', `type=1,uuid=${uuid.toUpperCase()}`],
  true,
);
test('is of the VM whose cgroup its QEMU is in', isOf, '/vm', 'vm', [], true);
test('is of no other VM', isOf, '/other', 'vm', ['-kernel', '/other'], false);
test('is not of what only has the UUID somewhere', isOf, uuid, 'vm', ['-kernel', uuid], false);
test('is not of a cgroup that is no VM', isOf, '/vm', 'cgroup', [], false);

const ownedBy = test.macro({
  exec: (t, vcpus: string, wanted: readonly string[]) => {
    const task = { tgid: 50, cmdline: ['qemu-system-x86_64', '-uuid', uuid] };
    const roots = makeTree(t, {
      'proc/self/mountinfo': mounts.v2,
      'cgroup/cgroup.controllers': 'cpu',
      'sys/devices/system/cpu/online': '0-1',
      ...taskFiles(50, task),
      ...taskFiles(51, { ...task, cgroup: `0::${vcpus}` }),
    });
    const kernel = {
      ...{ roots, layout: readCgroupLayout(roots), ownMasks: () => new Map(), systemd: true },
      native: { getAffinity: () => [0, 1] },
    };
    const problems = affinityActuator.validate(kernel as unknown as Kernel, {
      instance: { id: uuid, kind: 'vm', name: 'web' },
      tasks: [{ kind: 'vcpu', index: 0, tid: 51, startTicks: 1000 }],
      set: { cpus: [0] },
    });
    t.deepEqual(
      problems.map(({ code }) => code),
      wanted,
    );
  },
  title: (given = '') => `the masks of a VM's vCPUs ${given}`,
});
const libvirts = '/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/vcpu0';
test('are left to libvirt, where it has made their cgroup', ownedBy, libvirts, ['owned']);
test('are left to systemd, where they are a unit’s', ownedBy, '/system.slice/web.service', [
  'owned',
]);
test('are set where nobody owns their cgroup', ownedBy, '/vms/web', []);
