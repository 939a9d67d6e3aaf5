import { type CgroupLayout, cgroupIdOf, readCgroupLayout, walkBelow } from '../../linux/cgroups.ts';
import { findNarrowing, howToSeeAll } from '../../linux/namespaces.ts';
import { listFolder, readInode, readText } from '../../linux/read-file.ts';
import { readTopology } from '../../linux/topology.ts';
import { type Check, missing, unknown, works } from './check.ts';
import type { Machine } from './machine.ts';

/** Cgroups and what they can set, NUMA, PSI, hypervisors, container runtimes, Node. */
export function checkHost(machine: Machine): Check[] {
  return [
    ...cgroupChecks(machine),
    containerCheck(machine),
    cpuCheck(machine),
    numaCheck(machine),
    psiCheck(machine),
    qemuCheck(machine),
    kvmCheck(machine),
    guestFaultCheck(),
    vsockCheck(machine),
    libvirtCheck(machine),
    socketCheck(machine, 'container runtime', runtimeSockets, 'containers are seen as cgroups'),
    bpftraceCheck(machine),
    nodeCheck(machine),
  ];
}

function cgroupChecks({ roots, exists }: Machine): Check[] {
  const layout = layoutOf(roots);
  if (layout === null)
    return [
      missing('cgroups', true, {
        found: 'no hierarchy is mounted',
        lost: 'instances cannot be told apart, nor weighed',
        how: 'mount -t cgroup2 none /sys/fs/cgroup',
      }),
    ];
  const v2Controllers = (readText(`${layout.cpu}/cgroup.controllers`) ?? '').split(' ');
  const hasCpu = layout.version === 1 || v2Controllers.includes('cpu');
  return [
    works('cgroups', true, {
      found: `version ${layout.version}, instances under ${layout.cpu}`,
    }),
    hasCpu
      ? works('cpu controller', true, {
          found: layout.version === 1 ? 'cpu.shares' : 'cpu.weight',
        })
      : missing('cpu controller', true, {
          found: `${layout.cpu} has no cpu controller`,
          lost: 'weights and idle: only affinities can be set',
          how: 'boot without cgroup_disable=cpu and without the v1 cpu controller',
        }),
    layout.cpuset !== null
      ? works('cpuset controller', false, { found: layout.cpuset })
      : missing('cpuset controller', false, {
          found: 'not mounted',
          lost: 'instances are confined by the affinity of their threads only',
          how: layout.version === 1 ? 'mount -t cgroup -o cpuset none FOLDER' : null,
        }),
    nameCheck(layout),
    idleCheck(layout, exists),
  ];
}

function layoutOf(roots: Machine['roots']): CgroupLayout | null {
  try {
    return readCgroupLayout(roots);
  } catch {
    // The one thing it throws is that none is mounted, which is what is reported.
    return null;
  }
}

/** Whether something is hidden from this process, and so from an agent that is started beside it. */
function containerCheck({ roots }: Machine): Check {
  const name = 'all of the machine';
  const layout = layoutOf(roots);
  if (layout === null || readInode(`${roots.proc}/self/ns/pid`) === null)
    return unknown(name, { found: 'not told' });
  const narrowing = findNarrowing(roots, layout);
  return narrowing
    ? missing(name, false, { ...narrowing, how: howToSeeAll })
    : works(name, false, { found: 'the whole tree of cgroups, its cgroup and its pid namespace' });
}

/** A name that is no UTF-8 is read as one that nothing has. */
function nameCheck(layout: CgroupLayout): Check {
  const name = 'names of cgroups';
  const [first, ...others] = [...walkBelow(layout, '/')].filter(
    path => path.includes('\ufffd') && cgroupIdOf(layout, path) === null,
  );
  return first === undefined
    ? works(name, false, { found: 'UTF-8' })
    : missing(name, false, {
        found: `no UTF-8: ${first}${others.length > 0 ? ` and ${others.length} more` : ''}`,
        lost: 'it and all that is below is told as nothing, and counted as instance_unnamed',
        how: null,
      });
}

/** The root of a v2 hierarchy has no cpu.idle: a child of it shows. */
function idleCheck(layout: CgroupLayout, exists: Machine['exists']): Check {
  const folders = [layout.cpu, ...listFolder(layout.cpu).map(name => `${layout.cpu}/${name}`)];
  const at = folders.find(folder => exists(`${folder}/cpu.idle`));
  if (at !== undefined) return works('cpu.idle', false, { found: `${at}/cpu.idle` });
  return layout.version === 2 && !folders.some(folder => exists(`${folder}/cpu.weight`))
    ? unknown('cpu.idle', { found: 'not told: no cgroup has the cpu controller enabled yet' })
    : missing('cpu.idle', false, {
        found: 'no cgroup has it',
        lost: 'batch is out-weighed, never made idle',
        how: 'Linux 5.15 or newer',
      });
}

function cpuCheck({ roots }: Machine): Check {
  const online = readText(`${roots.sys}/devices/system/cpu/online`) ?? '?';
  return works('CPUs', false, { found: `online: ${online}` });
}

function numaCheck({ roots }: Machine): Check {
  try {
    const { nodes } = readTopology(roots, 'doctor');
    const found = `${nodes.length} node${nodes.length === 1 ? '' : 's'}`;
    return works('NUMA', false, { found });
  } catch {
    return unknown('NUMA', { found: 'cannot be told without a cgroup hierarchy' });
  }
}

function psiCheck({ roots }: Machine): Check {
  return readText(`${roots.proc}/pressure/cpu`) !== null
    ? works('PSI', false, { found: `${roots.proc}/pressure` })
    : missing('PSI', false, {
        found: `${roots.proc}/pressure is not readable`,
        lost: 'sculptor.pressure.time, of the host and of cgroups (no decision uses it)',
        how: 'boot with psi=1',
      });
}

function qemuCheck({ searchPath, exists }: Machine): Check {
  const folders = [...new Set([...searchPath, '/usr/libexec', '/usr/bin'])];
  const binaries = ['qemu-system-x86_64', 'qemu-system-aarch64', 'qemu-kvm'];
  const paths = folders.flatMap(folder => binaries.map(name => `${folder}/${name}`));
  const found = paths.filter(exists);
  return found.length > 0
    ? unknown('QEMU', { found: `${found.join(', ')} (present; not tried)` })
    : missing('QEMU', false, {
        found: 'no binary found',
        lost: 'nothing: there are no VMs of QEMU to sculpt here',
        how: 'apt-get install qemu-system-x86',
      });
}

function kvmCheck({ exists }: Machine): Check {
  // The device may answer while no stock kernel boots on it, so its presence proves nothing.
  return exists('/dev/kvm')
    ? unknown('KVM', { found: '/dev/kvm: present; not tried' })
    : missing('KVM', false, {
        found: '/dev/kvm is not there',
        lost: 'nothing: VMs here, if any, are emulated',
        how: 'enable virtualization in the firmware, modprobe kvm_intel or kvm_amd',
      });
}

/** On no kernel, so that nobody looks for the reason on his. */
function guestFaultCheck(): Check {
  return missing('guest page faults', false, {
    found:
      "not measured: KVM's tracepoint (kvm_page_fault) tells where one begins, and none where it ends",
    lost: 'how long page faults of guests under KVM take, one by one; sculptor.vcpu.exit.time of nested_page_fault has their sum',
    how: null,
  });
}

/** A host has vhost-vsock, a guest the device; a machine may be both. */
function vsockCheck({ exists }: Machine): Check {
  const found = ['/dev/vhost-vsock', '/dev/vsock'].filter(exists);
  return found.length > 0
    ? unknown('vsock', { found: `${found.join(', ')}: present; not tried` })
    : missing('vsock', false, {
        found: 'neither /dev/vhost-vsock nor /dev/vsock is there',
        lost: 'guests reach the gate over TCP or a unix socket only',
        how: 'modprobe vhost_vsock (on the host), vmw_vsock_virtio_transport (in a guest)',
      });
}

function bpftraceCheck({ exists, roots, searchPath }: Machine): Check {
  const lost = 'custom probes, and agent.driver: bpftrace';
  const path = searchPath.map(folder => `${folder}/bpftrace`).find(exists);
  if (path === undefined)
    return missing('bpftrace', false, {
      found: 'not on the search path',
      lost,
      how: 'apt-get install bpftrace',
    });
  const tracing = `${roots.sys}/kernel/tracing`;
  const isMounted = (readText(`${roots.proc}/self/mountinfo`) ?? '')
    .split('\n')
    .some(line => line.includes(` ${tracing} `) && line.includes(' - tracefs '));
  if (!exists(`${tracing}/events`) && isMounted)
    return unknown('bpftrace', {
      found: `${path}: present, tracefs is mounted, for root to see; not tried`,
    });
  if (!exists(`${tracing}/events`))
    return missing('bpftrace', false, {
      found: `${path}; tracefs is not mounted`,
      lost,
      how: 'mount -t tracefs tracefs /sys/kernel/tracing',
    });
  return unknown('bpftrace', { found: `${path}: present, tracefs is mounted; not tried` });
}

const libvirtSockets = [
  '/run/libvirt/libvirt-sock',
  '/run/libvirt/virtqemud-sock',
  '/var/run/libvirt/libvirt-sock',
];

/** Present: virsh asks the drives of its VMs there. */
function libvirtCheck(machine: Machine): Check {
  const sockets = libvirtSockets.filter(machine.exists);
  if (sockets.length === 0)
    return socketCheck(machine, 'libvirt', libvirtSockets, 'VMs are moved as plain processes');
  const virsh = machine.searchPath.map(folder => `${folder}/virsh`).find(machine.exists);
  return virsh === undefined
    ? missing('libvirt', false, {
        found: `${sockets.join(', ')} (present; not asked); virsh is not on the search path`,
        lost: "sculptor.vdisk.* of libvirt's VMs that have no QMP socket of their own",
        how: 'apt-get install libvirt-clients',
      })
    : unknown('libvirt', { found: `${[...sockets, virsh].join(', ')} (present; not asked)` });
}

const runtimeSockets = [
  '/run/docker.sock',
  '/run/containerd/containerd.sock',
  '/run/crio/crio.sock',
  '/run/podman/podman.sock',
];

function socketCheck(
  { exists }: Machine,
  name: string,
  sockets: readonly string[],
  lost: string,
): Check {
  const found = sockets.filter(exists);
  return found.length > 0
    ? unknown(name, { found: `${found.join(', ')} (present; not asked)` })
    : missing(name, false, { found: 'no socket found', lost: `nothing here: ${lost}`, how: null });
}

function nodeCheck({ nodeVersion }: Machine): Check {
  return Number(nodeVersion.split('.')[0]) >= 24
    ? works('Node', true, { found: nodeVersion })
    : missing('Node', true, {
        found: nodeVersion,
        lost: 'everything: node:sqlite and running TypeScript want 24',
        how: 'npm run setup brings it',
      });
}
