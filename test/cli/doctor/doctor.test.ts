import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';
import { decodeCapabilities } from '../../../src/cli/doctor/capabilities.ts';
import { type Check, canRun } from '../../../src/cli/doctor/check.ts';
import { checkHost } from '../../../src/cli/doctor/host-checks.ts';
import { checkKernel, doesWithoutAddon } from '../../../src/cli/doctor/kernel-checks.ts';
import type { Machine } from '../../../src/cli/doctor/machine.ts';
import { formatDoctor } from '../../../src/cli/doctor/report.ts';
import { checkSources } from '../../../src/cli/doctor/source-checks.ts';
import { agentConfigSchema, configSchema } from '../../../src/contract/config.ts';
import { KernelInterfaceError } from '../../../src/contract/errors.ts';
import type { Native } from '../../../src/linux/native.ts';

const configOf = (agent: object) => configSchema.parse({ agent });

const stateOf = (checks: readonly Check[], name: string) =>
  checks.find(check => check.name === name)?.state;

/** A machine made of files; `exists` knows these and nothing else. */
function machineWith(files: Readonly<Record<string, string>>, nodeVersion = '24.1.0') {
  const root = mkdtempSync(join(tmpdir(), 'doctor-'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const machine: Machine = {
    roots: { proc: `${root}/proc`, sys: `${root}/sys`, cgroup: `${root}/sys/fs/cgroup` },
    exists: path => path in files || path.slice(root.length + 1) in files,
    native: () => {
      throw new KernelInterfaceError('NATIVE_MISSING', 'build/sculptor.node: not built');
    },
    nodeVersion,
    searchPath: [],
  };
  return { machine, remove: () => rmSync(root, { recursive: true }) };
}

for (const [what, text, state, found] of [
  ['none', '[none] integrity confidentiality\n', 'works', 'none'],
  ['integrity', 'none [integrity] confidentiality\n', 'works', 'integrity'],
  ['confidentiality', 'none integrity [confidentiality]\n', 'missing', /no BPF program may read/],
  ['nothing is told of it', null, 'unknown', /not told/],
] as const)
  test(`lockdown, ${what}: ${state}`, t => {
    const files = text === null ? {} : { 'sys/kernel/security/lockdown': text };
    const { machine, remove } = machineWith(files);
    t.teardown(remove);
    const lockdown = checkKernel(machine, configOf({})).find(({ name }) => name === 'lockdown');
    t.is(lockdown?.state, state);
    if (typeof found === 'string') t.is(lockdown?.found, found);
    else t.regex(lockdown?.found ?? '', found);
    t.is(lockdown?.needed, state === 'missing', 'what runs all the same is not held up by it');
  });

test('a machine without BTF, libbpf and cgroups is told what it loses, and that the main job cannot run', t => {
  const { machine, remove } = machineWith({
    'proc/sys/kernel/osrelease': '5.4.0',
    'proc/self/status': 'CapEff:\t0000000000000000\n',
    'proc/self/mountinfo': '',
  });
  t.teardown(remove);
  const checks = [...checkKernel(machine, configOf({})), ...checkHost(machine)];
  for (const name of ['kernel', 'BTF', 'capabilities', 'addon, libbpf', 'cgroups'])
    t.is(stateOf(checks, name), 'missing', name);
  t.false(canRun(checks));
  for (const check of checks.filter(each => each.state === 'missing')) t.truthy(check.lost);
  const text = formatDoctor(checks);
  t.regex(text, /lost without it: .*The engine, status and doctor work without/);
  t.regex(text, /how to get it: +apt-get install g\+\+ pkg-config libbpf-dev/);
  t.regex(text, /The main job cannot run here: kernel, BTF/);
});

test('without the addon an agent under bpftrace can run, if nothing else of it needs the addon, and the main job cannot', t => {
  const { machine, remove } = machineWith({
    'proc/sys/kernel/osrelease': '6.1.0',
    'sys/kernel/btf/vmlinux': '',
    'proc/self/status': 'CapEff:\t000001ffffffffff\n',
  });
  t.teardown(remove);
  const checksOf = (agent: object) => checkKernel(machine, configOf(agent));
  const driver = 'bpftrace';
  t.true(doesWithoutAddon(checksOf({ driver })));
  t.true(canRun(checksOf({ driver })));
  t.regex(
    formatDoctor(checksOf({ driver })),
    /the agent can run here, without the addon: sculpt agent/,
  );
  for (const needing of [{}, { driver, endpoint: 'vsock://2:4000' }]) {
    t.false(doesWithoutAddon(checksOf(needing)));
    t.false(canRun(checksOf(needing)));
    t.regex(formatDoctor(checksOf(needing)), /The main job cannot run here: addon, libbpf/);
  }
});

test('a kernel without BTF is told how to do without, and one whose BTF is in a file is asked by that', t => {
  const { machine, remove } = machineWith({
    'proc/sys/kernel/osrelease': '6.1.0',
    'proc/self/status': 'CapEff:\t000001ffffffffff\n',
  });
  t.teardown(remove);
  const loaded: unknown[] = [];
  const checksOf = (agent: object, fits: number) => {
    const object = {
      runRaw: () => fits,
      mapMemory: () => Buffer.alloc(0),
      attach: () => undefined,
      close: () => undefined,
    };
    const loadObject = (path: string, { btf }: { btf?: string }) => {
      loaded.push(btf);
      if (!path.endsWith('/runqueue.bpf.o')) throw new KernelInterfaceError('KERNEL_MISSING', 'no');
      return object;
    };
    const native = () => ({ loadObject, libbpfVersion: () => '1.1' }) as unknown as Native;
    return checkKernel({ ...machine, native }, configOf(agent));
  };
  const bare = checksOf({}, 1);
  t.is(stateOf(bare, 'BTF'), 'missing');
  t.regex(
    bare.find(({ name }) => name === 'BTF')?.how ?? '',
    /agent\.btf: a file .*agent\.driver: bpftrace/,
  );
  t.false(canRun(bare));
  t.deepEqual(loaded.splice(0), [undefined, undefined]);

  const btf = '/a/file';
  const filed = checksOf({ btf }, 1);
  t.is(stateOf(filed, 'BTF'), 'works');
  t.is(stateOf(filed, 'BPF tracepoints (raw_tp)'), 'works');
  t.is(stateOf(filed, 'BPF iterators (iter/task)'), 'missing');
  t.true(canRun(filed));
  t.deepEqual(loaded.splice(0), [btf, undefined]);

  const other = checksOf({ btf }, 0).find(({ name }) => name === 'BPF tracepoints (raw_tp)');
  t.is(other?.state, 'missing');
  t.regex(other?.found ?? '', /agent\.btf: \/a\/file: the BTF of another kernel/);
});

test('a kernel before 6.1 is too old, and without PSI its metric is lost', t => {
  const kernelOf = (release: string) => {
    const { machine, remove } = machineWith({ 'proc/sys/kernel/osrelease': release });
    t.teardown(remove);
    t.regex(checkHost(machine).find(({ name }) => name === 'PSI')?.lost ?? '', /pressure\.time/);
    return checkKernel(machine, configOf({})).find(({ name }) => name === 'kernel');
  };
  for (const release of ['6.1.0-9-amd64', '6.12.1', '7.0'])
    t.is(kernelOf(release)?.state, 'works', release);
  for (const release of ['5.15.0', '6.0.19']) t.is(kernelOf(release)?.state, 'missing', release);
  t.regex(kernelOf('5.15.0')?.how ?? '', /6\.1 or newer/);
});

test('sources that are selected are tried, without taking what others have, and each reason has its own remedy', async t => {
  const { machine, remove } = machineWith({
    'proc/self/mountinfo': '1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n',
    'proc/self/status': 'CapEff:\t0000000000000000\n',
  });
  t.teardown(remove);
  const tried: string[] = [];
  const kind = (name: string, error?: Error, more: object = {}) => {
    const start = () => {
      tried.push(name);
      if (error) throw error;
      return { stop: () => void tried.push('stop') } as never;
    };
    return { name, tells: `what ${name} tells`, start, ...more };
  };
  const refused = (code: 'KERNEL_MISSING' | 'KERNEL_BUSY' | 'KERNEL_PRIVILEGE', context = {}) =>
    new KernelInterfaceError(code, 'no', context);
  const look = () => ({ found: 'it is there', isSure: false });
  const checks = await checkSources(
    { ...machine, native: () => ({}) as Native },
    agentConfigSchema.parse({ profile: 'minimal' }),
    [
      kind('kvm'),
      kind('own'),
      kind('looked', undefined, { look }),
      kind('in use', undefined, { look: () => ({ found: 'by an agent', isSure: true }) }),
      kind('absent', refused('KERNEL_MISSING', { remedy: 'modprobe kvm_amd' })),
      kind('busy', refused('KERNEL_BUSY')),
      kind('shut', refused('KERNEL_PRIVILEGE', { absent: [] })),
      kind('bare', undefined, { needs: ['CAP_SYS_PTRACE'], look }),
      kind('broken', new Error('gone')),
    ],
  );
  t.deepEqual(tried, ['own', 'stop', 'absent', 'busy', 'shut', 'broken']);
  t.deepEqual(
    checks.map(({ name, state, how }) => [name.slice('source '.length), state, how?.slice(0, 28)]),
    [
      ['kvm', 'unknown', undefined],
      ['own', 'works', undefined],
      ['looked', 'unknown', undefined],
      ['in use', 'works', undefined],
      ['absent', 'missing', 'modprobe kvm_amd'],
      ['busy', 'missing', 'nothing is to be done where '],
      ['shut', 'missing', 'what refuses it to a process'],
      ['bare', 'missing', 'run as root, or give the ser'],
      ['broken', 'missing', undefined],
    ],
  );
  t.regex(checks[0]?.found ?? '', /not selected/);
  t.true(checks.every(({ needed }) => !needed));
});

test('cgroup v2 with its controllers is told from v1', t => {
  const { machine, remove } = machineWith({
    'proc/self/mountinfo': '1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n',
    'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io\n',
    'sys/fs/cgroup/system.slice/cpu.idle': '0\n',
  });
  t.teardown(remove);
  const checks = checkHost(machine);
  t.regex(checks.find(check => check.name === 'cgroups')?.found ?? '', /^version 2/);
  t.is(stateOf(checks, 'cpu controller'), 'works');
  t.is(stateOf(checks, 'cpuset controller'), 'works');
  t.is(stateOf(checks, 'cpu.idle'), 'works');
});

test('a cgroup whose name is no UTF-8 is told, since it and all below it have no name', t => {
  const { machine, remove } = machineWith({
    'proc/self/mountinfo': '30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n',
    'sys/fs/cgroup/büro/cpu.weight': '100',
  });
  t.teardown(remove);
  const names = () => checkHost(machine).find(({ name }) => name === 'names of cgroups');
  t.is(names()?.state, 'works');
  const folder = Buffer.from(`${machine.roots.cgroup}/büro/b`);
  mkdirSync(Buffer.concat([folder, Buffer.from([0xff])]));
  t.like(names(), { state: 'missing', found: 'no UTF-8: /büro/b\ufffd' });
});

test('a device that is there proves nothing: KVM is unknown, not working', t => {
  const { machine, remove } = machineWith({ '/dev/kvm': '' });
  t.teardown(remove);
  const kvm = checkHost(machine).find(check => check.name === 'KVM');
  t.is(kvm?.state, 'unknown');
  t.regex(kvm?.found ?? '', /present; not tried/);
});

test('vsock is found on a host and in a guest, and what is lost without it is told', t => {
  const foundOn = (files: Record<string, string>) => {
    const { machine, remove } = machineWith(files);
    t.teardown(remove);
    return checkHost(machine).find(check => check.name === 'vsock');
  };
  t.regex(foundOn({ '/dev/vhost-vsock': '' })?.found ?? '', /^\/dev\/vhost-vsock: present/);
  t.regex(foundOn({ '/dev/vsock': '' })?.found ?? '', /^\/dev\/vsock: present/);
  t.like(foundOn({}), { state: 'missing', needed: false });
});

test('libvirt without its client is told with what is lost', t => {
  const foundOn = (files: Readonly<Record<string, string>>) => {
    const { machine, remove } = machineWith(files);
    t.teardown(remove);
    return checkHost({ ...machine, searchPath: ['/usr/bin'] }).find(
      check => check.name === 'libvirt',
    );
  };
  const socket = { '/run/libvirt/libvirt-sock': '' };
  t.like(foundOn({ '/usr/bin/virsh': '' }), { state: 'missing', how: null });
  t.like(foundOn(socket), { state: 'missing', how: 'apt-get install libvirt-clients' });
  t.regex(foundOn(socket)?.lost ?? '', /sculptor\.vdisk/);
  t.is(foundOn({ ...socket, '/usr/bin/virsh': '' })?.state, 'unknown');
});

test('bpftrace is told apart from the tracefs that it needs', t => {
  const foundOn = (files: Record<string, string>) => {
    const { machine, remove } = machineWith(files);
    t.teardown(remove);
    return checkHost({ ...machine, searchPath: ['/usr/bin'] }).find(
      check => check.name === 'bpftrace',
    );
  };
  const bpftrace = { '/usr/bin/bpftrace': '' };
  t.like(foundOn({}), { state: 'missing', how: 'apt-get install bpftrace' });
  t.regex(foundOn(bpftrace)?.how ?? '', /^mount -t tracefs/);
  t.is(foundOn({ ...bpftrace, 'sys/kernel/tracing/events': '' })?.state, 'unknown');
});

test('capabilities are decoded by bit, and those that include others count for them', t => {
  t.deepEqual(decodeCapabilities('000001ffffffffff').absent, []);
  const names = (capEff: string) => decodeCapabilities(capEff).absent.map(c => c.name);
  // CAP_SYS_ADMIN (21) includes CAP_BPF and CAP_PERFMON.
  t.deepEqual(names((1n << 21n).toString(16)), [
    'CAP_SYS_NICE',
    'CAP_DAC_OVERRIDE',
    'CAP_DAC_READ_SEARCH',
  ]);
  t.is(names('garbage').length, 5);
});

test('tracefs that is there for root alone is not said to be unmounted', t => {
  const { machine, remove } = machineWith({});
  t.teardown(remove);
  const { sys, proc } = machine.roots;
  const line = `40 20 0:12 / ${sys}/kernel/tracing rw,relatime - tracefs tracefs rw\n`;
  mkdirSync(`${proc}/self`, { recursive: true });
  writeFileSync(`${proc}/self/mountinfo`, line);
  const here = { ...machine, exists: (path: string) => path === '/usr/bin/bpftrace' };
  const found = checkHost({ ...here, searchPath: ['/usr/bin'] });
  t.like(
    found.find(check => check.name === 'bpftrace'),
    { state: 'unknown', how: null },
  );
});
