import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** Of `/sys/fs/cgroup`, the guest's own. */
export const guestCgroup = '/sys/fs/cgroup/guest';

/**
 * Starts, in the lab, a guest under KVM in which the real agent can run: two vCPUs, vsock, its root the lab's own, read-only
 * below, its cgroup its own. It runs `script`, a path in the checkout; its console is its standard output.
 */
export function startWholeGuest(options: {
  readonly folder: string;
  readonly uuid: string;
  readonly script: string;
  /** Further arguments of QEMU. */
  readonly devices?: readonly string[];
}): ChildProcessByStdio<null, Readable, null> {
  const root = `${options.folder}/root`;
  mkdirSync(root);
  execFileSync('mount', ['--bind', '/', root]);
  mkdirSync(guestCgroup);
  const kernel = `/lab/kernel-${/^(\d+\.\d+)/.exec(execFileSync('uname', ['-r'], { encoding: 'utf8' }))?.[1]}`;
  const find = (under: string, pattern: RegExp) =>
    `${under}/${readdirSync(under).find(name => pattern.test(name))}`;
  const share = (tag: string, path: string) => [
    '-virtfs',
    `local,id=${tag},path=${path},mount_tag=${tag},security_model=none,multidevs=remap,readonly=on`,
  ];
  const commandLine = `console=ttyS0 panic=-1 mitigations=off tsc=reliable audit=0 quiet loglevel=4 lab-kernel=${kernel.slice('/lab/kernel-'.length)} lab=guest lab-run=/checkout/${options.script}`;
  return spawn(
    'sh',
    [
      ...['-c', `echo $$ >${guestCgroup}/cgroup.procs && exec "$@"`, 'sh', 'qemu-system-x86_64'],
      ...['-name', 'guest=tenant,debug-threads=on', '-uuid', options.uuid],
      ...['-nodefaults', '-no-reboot', '-display', 'none'],
      ...['-machine', 'q35', '-accel', 'kvm', '-cpu', 'host', '-smp', '2'],
      ...['-m', '1024', '-kernel', find(`${kernel}/boot`, /^vmlinuz-/)],
      ...['-initrd', find(kernel, /^init-.*\.cpio$/), '-append', commandLine],
      ...[...share('root', root), ...share('lab', '/lab'), ...share('checkout', '/checkout')],
      ...share('share', '/share'),
      ...['-device', 'vhost-vsock-pci,guest-cid=42', ...(options.devices ?? [])],
      ...['-serial', 'stdio'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
}
