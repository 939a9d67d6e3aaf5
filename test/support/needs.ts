import { existsSync } from 'node:fs';
import test from 'ava';

/** What a machine may lack; each with how to tell. */
const requirements = {
  root: () => process.getuid?.() === 0,
  btf: () => existsSync('/sys/kernel/btf/vmlinux'),
  addon: () => existsSync(new URL('../../build/sculptor.node', import.meta.url)),
  cgroupV1Cpu: () =>
    existsSync('/sys/fs/cgroup/cpu/cpu.shares') || existsSync('/sys/fs/cgroup/cpu/tasks'),
  cgroupV1Memory: () => existsSync('/sys/fs/cgroup/memory/memory.stat'),
  cgroupV1Cpuset: () => existsSync('/sys/fs/cgroup/cpuset/cpuset.cpus'),
  vsock: () => existsSync('/dev/vsock'),
  // Without it nothing on a machine can reach its own vsock ports.
  vsockLoopback: () => existsSync('/sys/module/vsock_loopback'),
  namespaces: () => existsSync('/dev/net/tun') && existsSync('/usr/sbin/ip'),
  twoCpus: () => existsSync('/sys/devices/system/cpu/cpu1'),
} as const;

export type Requirement = keyof typeof requirements;

/** `test.serial`, or `test.skip` with a printed reason where the machine lacks something. */
export function needs(...wanted: Requirement[]): typeof test.serial {
  const missing = wanted.filter(name => !requirements[name]());
  if (missing.length === 0) return test.serial;
  console.error(`# skipped: this machine lacks ${missing.join(', ')}`);
  return test.skip as unknown as typeof test.serial;
}
