import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { trustsSocketsOfFiles } from './sockets-of-files.ts';

/** What a machine may lack; each with how to tell. */
const requirements = {
  root: () => process.getuid?.() === 0,
  btf: () => existsSync('/sys/kernel/btf/vmlinux'),
  addon: () => existsSync(new URL('../../build/sculptor.node', import.meta.url)),
  cgroupV1Cpu: () =>
    existsSync('/sys/fs/cgroup/cpu/cpu.shares') || existsSync('/sys/fs/cgroup/cpu/tasks'),
  cgroupV2: () => readFileSync('/proc/self/mountinfo', 'utf8').includes(' - cgroup2 '),
  cgroupV1Memory: () => existsSync('/sys/fs/cgroup/memory/memory.stat'),
  cgroupV1Cpuset: () => existsSync('/sys/fs/cgroup/cpuset/cpuset.cpus'),
  cgroupV1Blkio: () => existsSync('/sys/fs/cgroup/blkio/blkio.throttle.read_iops_device'),
  vsock: () => existsSync('/dev/vsock'),
  // Without it nothing on a machine can reach its own vsock ports.
  vsockLoopback: () => existsSync('/sys/module/vsock_loopback'),
  loopDevice: () => existsSync('/dev/loop-control'),
  namespaces: () => existsSync('/dev/net/tun') && existsSync('/usr/sbin/ip'),
  // Built in, or loaded: a driver that has its number.
  macvtap: () => readFileSync('/proc/devices', 'utf8').includes(' macvtap'),
  // Tracepoints of Linux 6.3, by the types that the kernel has.
  socketLengths: () =>
    existsSync('/sys/kernel/btf/vmlinux') &&
    readFileSync('/sys/kernel/btf/vmlinux').includes('btf_trace_sock_recv_length'),
  bpftrace: () => existsSync('/usr/bin/bpftrace'),
  tracefs: mountTracefs,
  // Not below a home that is closed, such as /root: then who is tried as another user does not even start.
  nodeAndCheckoutThatOthersMayRun: () => {
    const read = [import.meta.filename, fileURLToPath(import.meta.resolve('zod'))];
    const program = `${JSON.stringify(read)}.forEach(file => fs.accessSync(file))`;
    const other = { uid: 64_900, gid: 64_900 };
    return spawnSync(process.execPath, ['-e', program], other).status === 0;
  },
  socketsOfFiles: trustsSocketsOfFiles,
  ipv6: () => existsSync('/proc/net/if_inet6'),
  twoCpus: () => existsSync('/sys/devices/system/cpu/cpu1'),
} as const;

export type Requirement = keyof typeof requirements;

/** For a test of which only a part needs it. */
export const has = (requirement: Requirement): boolean => requirements[requirement]();

/** `test.serial`, or `test.skip` with a printed reason where the machine lacks something. */
export function needs(...wanted: Requirement[]): typeof test.serial {
  const missing = wanted.filter(name => !requirements[name]());
  if (missing.length === 0) return test.serial;
  console.error(`# skipped: this machine lacks ${missing.join(', ')}`);
  return test.skip as unknown as typeof test.serial;
}

/** For tests that run beside others of their file, where `needs` lets them: they wait more than they compute, and what they hold others do not move. */
export function beside(serial: typeof test.serial): typeof test {
  return serial === test.serial ? test : (test.skip as unknown as typeof test);
}

/** Classic tracepoints and bpftrace need it, a new machine has it not mounted, and the product only says so: tests mount it. */
function mountTracefs(): boolean {
  const isMounted = () => existsSync('/sys/kernel/tracing/events');
  if (!isMounted() && process.getuid?.() === 0)
    spawnSync('mount', ['-t', 'tracefs', 'tracefs', '/sys/kernel/tracing']);
  return isMounted();
}
