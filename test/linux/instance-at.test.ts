import test from 'ava';
import type { InstanceKind } from '../../src/contract/instance.ts';
import { readCgroupLayout } from '../../src/linux/cgroups.ts';
import { containerIdOf, findVm, instanceAt, parseQemu } from '../../src/linux/instance-at.ts';
import { makeTree, mounts, taskFiles } from './tree.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';
const other = '2b671a64-40d5-491e-99b0-da01ff1f3341';
const id64 = 'a'.repeat(64);

const isKind = test.macro({
  exec: (t, path: string, kind: InstanceKind, container: string | null) => {
    t.is(instanceAt(path).kind, kind);
    t.is(containerIdOf(path), container);
  },
  title: (_, path) => `what ${path} is`,
});
test(isKind, '/', 'cgroup', null);
test(isKind, '/system.slice/cron.service', 'cgroup', null);
test(isKind, `/docker/${id64}`, 'container', id64);
test(isKind, `/system.slice/docker-${id64}.scope`, 'container', id64);
test(isKind, `/docker/${id64}/init`, 'cgroup', id64);

test('QEMU is known by its program and its uuid, its name by either way of giving it', t => {
  const qemu = ['/usr/bin/qemu-system-x86_64'];
  t.deepEqual(parseQemu([...qemu, '-uuid', uuid, '-name', 'guest=web,debug-threads=on']), {
    uuid,
    name: 'web',
  });
  t.deepEqual(
    parseQemu([...qemu, '-name', 'a,,b,debug-threads=on', '--uuid', uuid.toUpperCase()]),
    {
      uuid,
      name: 'a,b',
    },
  );
  t.is(parseQemu(['/usr/libexec/qemu-kvm', '-uuid', uuid])?.name, '');
  t.is(parseQemu([...qemu, '-m', '1G']), null);
  t.is(parseQemu([...qemu, '-uuid']), null);
  t.is(parseQemu([...qemu, '-uuid', '../../etc']), null);
  t.is(parseQemu(['vim', '-uuid', uuid]), null);
  t.is(parseQemu([]), null);
});

function host(t: Parameters<typeof makeTree>[0], files: Record<string, string>) {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    ...taskFiles(50, { cmdline: ['qemu-system-x86_64', '-uuid', uuid, '-name', 'web'] }),
    ...taskFiles(60, { cmdline: ['qemu-system-x86_64', '-uuid', other] }),
    ...taskFiles(70, { cmdline: ['swtpm'] }),
    ...files,
  });
  return (path: string) => findVm(roots, readCgroupLayout(roots), path);
}

test('the VM of a cgroup is the one whose QEMU is in it, beside what serves it', t => {
  const find = host(t, { 'cgroup/vm/cgroup.procs': '70\n50', 'cgroup/batch/cgroup.procs': '70' });
  t.deepEqual(find('/vm'), { instance: { id: uuid, kind: 'vm', name: 'web' }, path: '/vm' });
  t.is(find('/batch'), null);
  t.is(find('/gone'), null);
});

test('a cgroup that two VMs share is neither, and the root never is one', t => {
  const find = host(t, { 'cgroup/both/cgroup.procs': '50\n60', 'cgroup/cgroup.procs': '50' });
  t.is(find('/both'), null);
  t.is(find('/'), null);
});

test("libvirt's children belong to the machine's cgroup; a threaded one is known by its threads", t => {
  const scope = '/machine.slice/machine-qemu\\x2d1\\x2dweb.scope';
  const find = host(t, {
    [`cgroup${scope}/libvirt/vcpu0/cgroup.threads`]: '50',
    'cgroup/machine/qemu-1-web.libvirt-qemu/emulator/cgroup.procs': '50',
  });
  t.is(find(`${scope}/libvirt/vcpu0`)?.path, scope);
  t.is(find('/machine/qemu-1-web.libvirt-qemu/emulator')?.path, '/machine/qemu-1-web.libvirt-qemu');
});
