import test from 'ava';
import fc from 'fast-check';
import type { InstanceKind } from '../../src/contract/instance.ts';
import { readCgroupLayout } from '../../src/linux/cgroups.ts';
import {
  containerIdOf,
  findVm,
  instanceAt,
  parseQemu,
  vmOfUuid,
} from '../../src/linux/instance-at.ts';
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

const qemu = ['/usr/bin/qemu-system-x86_64'];

test('a name is as long as one may be, and has nothing that a terminal would obey: who may start a process writes it', t => {
  const nameOf = (name: string) => vmOfUuid(uuid, { uuid, name }).name;
  t.is(nameOf('web\n\x1b]0;x\x07'), 'web\ufffd\ufffd]0;x\ufffd');
  t.is(nameOf('x'.repeat(262_000))?.length, 256);
  // The bound may fall within a character of two halves.
  t.is(nameOf(`${'x'.repeat(255)}\u{1f600}`), `${'x'.repeat(255)}\ufffd`);
});

test('a QEMU that gives its options over and over is judged by as many as one has', t => {
  const args = Array.from({ length: 2000 }, (_, i) => ['-name', `n${i}`]).flat();
  t.is(parseQemu([...qemu, ...args])?.name, 'n63');
});

test('QEMU is known by its program, its name by either way of giving it', t => {
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
  t.deepEqual(parseQemu([...qemu, '-name', 'process=web', '-m', '1G']), { uuid: null, name: '' });
  t.is(parseQemu(['/usr/libexec/qemu-kvm', '-uuid', uuid])?.name, '');
  t.is(parseQemu(['vim', '-uuid', uuid]), null);
  t.is(parseQemu([]), null);
});

const hasUuid = test.macro({
  exec: (t, args: string, wanted: string | null) => {
    t.is(parseQemu([...qemu, ...args.split(' ')])?.uuid, wanted);
  },
  title: (_, args) => `the UUID of a QEMU with ${args}`,
});
test(hasUuid, `-uuid ${uuid}`, uuid);
test(hasUuid, `-smbios type=1,uuid=${uuid}`, uuid);
test(hasUuid, `--smbios type=1,manufacturer=a,,b,uuid=${uuid.toUpperCase()},family=c`, uuid);
// As QEMU 7.2 answers query-uuid.
test(hasUuid, `-uuid ${other} -smbios type=1,uuid=${uuid}`, uuid);
test(hasUuid, `-smbios type=1,uuid=${other} -uuid ${uuid}`, uuid);
test(hasUuid, `-smbios type=1,uuid=${uuid} -smbios type=1,serial=1`, uuid);
test(hasUuid, `-smbios type=2,uuid=${uuid}`, null);
test(hasUuid, '-m 1G', null);
test(hasUuid, '-uuid', null);
test(hasUuid, '-uuid ../../etc', null);
test(hasUuid, '-uuid 00000000-0000-0000-0000-000000000000', null);

const isNoMachine = test.macro({
  exec: (t, args: string) => t.is(parseQemu([...qemu, ...args.split(' ')]), null),
  title: (_, args) => `no VM is a QEMU with ${args}`,
});
test(isNoMachine, '-S -nodefaults -machine none,accel=kvm:tcg -qmp unix:/q');
test(isNoMachine, `-M type=none -uuid ${uuid}`);
test(isNoMachine, '-machine help');
test(isNoMachine, '--version');

test('whatever the arguments are, a UUID is one', t => {
  const words = ['-uuid', '-smbios', '-name', '-M', 'type=1,uuid=', 'guest=', uuid, ',', '='];
  const word = fc.oneof(fc.constantFrom(...words), fc.string());
  const argument = fc.array(word, { maxLength: 4 }).map(parts => parts.join(''));
  const holds = fc.property(fc.array(argument), args => {
    const found = parseQemu([...qemu, ...args])?.uuid ?? uuid;
    return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(found);
  });
  t.notThrows(() => fc.assert(holds));
});

function host(t: Parameters<typeof makeTree>[0], files: Record<string, string>) {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    ...taskFiles(50, { cmdline: ['qemu-system-x86_64', '-uuid', uuid, '-name', 'web'] }),
    ...taskFiles(60, { cmdline: ['qemu-system-x86_64', '-uuid', other] }),
    ...taskFiles(70, { cmdline: ['swtpm'] }),
    ...taskFiles(80, { cmdline: ['kvm', '-name', 'db'], cgroup: '0::/plain' }),
    ...taskFiles(81, { tgid: 80, cmdline: ['kvm', '-name', 'db'], cgroup: '0::/plain/vcpus' }),
    ...files,
  });
  return (path: string) => findVm(roots, readCgroupLayout(roots), path);
}

const nobody = { vm: null, qemus: 0 };

test('the VM of a cgroup is the one whose QEMU is in it, beside what serves it', t => {
  const find = host(t, { 'cgroup/vm/cgroup.procs': '70\n50', 'cgroup/batch/cgroup.procs': '70' });
  t.deepEqual(find('/vm').vm, { instance: { id: uuid, kind: 'vm', name: 'web' }, path: '/vm' });
  t.deepEqual(find('/batch'), nobody);
  t.deepEqual(find('/gone'), nobody);
});

test('what a QEMU calls its VM begins no line and speaks to no terminal', t => {
  const cmdline = [...qemu, '-uuid', uuid, '-name', 'a\nb\u001b[0m'];
  const find = host(t, { 'cgroup/odd/cgroup.procs': '90', ...taskFiles(90, { cmdline }) });
  t.is(find('/odd').vm?.instance.name, 'a\ufffdb\ufffd[0m');
});

test('a VM without a UUID is known by the cgroup of its main thread, wherever its others are', t => {
  const find = host(t, {
    'cgroup/plain/cgroup.procs': '80',
    'cgroup/plain/vcpus/cgroup.threads': '81',
  });
  const found = { instance: { id: '/plain', kind: 'vm', name: 'db' }, path: '/plain' } as const;
  t.deepEqual(find('/plain'), { vm: found, qemus: 1 });
  t.deepEqual(find('/plain/vcpus'), { vm: found, qemus: 1 });
});

test('a VM without a UUID does not take the cgroups of others that are below its own', t => {
  for (const threads of ['70', '81\n70', '']) {
    const find = host(t, {
      'cgroup/plain/cgroup.procs': '80',
      'cgroup/plain/vcpus/cgroup.threads': '81',
      'cgroup/plain/session/cgroup.threads': threads,
    });
    t.deepEqual(find('/plain'), { vm: null, qemus: 1 });
  }
});

test('who only asks a QEMU for help has no VM', t => {
  const find = host(t, {
    'cgroup/x.scope/cgroup.procs': '90',
    ...taskFiles(90, { cmdline: ['qemu-system-x86_64', '-cpu', 'help'], cgroup: '0::/x.scope' }),
  });
  t.deepEqual(find('/x.scope'), nobody);
});

test('where /proc tells another path than the hierarchy has, it is the cgroup that it was found in', t => {
  const find = host(t, {
    'cgroup/x.scope/cgroup.procs': '90',
    ...taskFiles(90, { cmdline: ['qemu-kvm'], cgroup: '0::/../../x.scope' }),
  });
  const instance = { id: '/x.scope', kind: 'vm', name: 'x.scope' } as const;
  t.deepEqual(find('/x.scope').vm, { instance, path: '/x.scope' });
});

test('a cgroup that several QEMUs share is none of them, and the root never is one; all are counted', t => {
  const many = Array.from({ length: 50 }, (_, i) => 100 + i);
  const find = host(t, {
    'cgroup/both/cgroup.procs': '50\n60',
    'cgroup/mixed/cgroup.procs': '50\n80',
    'cgroup/many/cgroup.procs': many.join('\n'),
    'cgroup/cgroup.procs': '50',
    ...Object.assign(
      {},
      ...many.map(id => taskFiles(id, { cmdline: ['kvm'], cgroup: '0::/many' })),
    ),
  });
  t.deepEqual(find('/both'), { vm: null, qemus: 2 });
  t.deepEqual(find('/mixed'), { vm: null, qemus: 2 });
  t.deepEqual(find('/many'), { vm: null, qemus: 50 });
  t.deepEqual(find('/'), { vm: null, qemus: 1 });
});

test("libvirt's children belong to the machine's cgroup; a threaded one is known by its threads", t => {
  const scope = '/machine.slice/machine-qemu\\x2d1\\x2dweb.scope';
  const find = host(t, {
    [`cgroup${scope}/libvirt/vcpu0/cgroup.threads`]: '50',
    'cgroup/machine/qemu-1-web.libvirt-qemu/emulator/cgroup.procs': '50',
  });
  t.is(find(`${scope}/libvirt/vcpu0`).vm?.path, scope);
  t.is(
    find('/machine/qemu-1-web.libvirt-qemu/emulator').vm?.path,
    '/machine/qemu-1-web.libvirt-qemu',
  );
});
