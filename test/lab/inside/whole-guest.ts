import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Console, followConsole } from '../support/console.ts';

/** Of `/sys/fs/cgroup`, the guest's own. */
export const guestCgroup = '/sys/fs/cgroup/guest';

export type WholeGuestOptions = {
  readonly folder: string;
  readonly uuid: string;
  readonly script: string;
  /** Further arguments of QEMU. */
  readonly devices?: readonly string[];
};

export type WholeGuest = {
  readonly qemu: ChildProcess;
  readonly screen: Console;
  /** What KVM saw of the starts before this one, each of which a triple fault ended. */
  readonly tripleFaults: readonly string[];
};

/**
 * How often a guest is started again that a triple fault ended. The emulated CPU, back in the guest after an exit, now and then (QEMU
 * 10.0) finds neither the kernel's next instruction mapped nor its handlers.
 */
const mostTripleFaults = 2;
const longestBootSeconds = 240;

/**
 * Starts, in the lab, a guest under KVM in which the real agent can run: two vCPUs, vsock, its root the lab's own, read-only
 * below, its cgroup its own. It runs `script`, a path in the checkout, and has begun when that says `GUEST begins`. One at a time.
 * It runs while `use` does, which fails when it ends: who waits for what it says would wait in vain. Then it tells how the guest was.
 */
export async function withWholeGuest<T>(
  options: WholeGuestOptions,
  use: (guest: WholeGuest) => Promise<T>,
): Promise<T> {
  const guest = await startWholeGuest(options);
  const end = runs(guest.qemu) ? once(guest.qemu, 'exit') : Promise.resolve();
  const ended = end.then(() => {
    const [fault] = readTripleFaults().slice(guest.tripleFaults.length);
    throw new Error(fault ? `a triple fault ended the guest: ${fault}` : 'the guest has ended');
  });
  try {
    return await Promise.race([use(guest), ended]);
  } catch (error) {
    await reportGuest(guest);
    throw error;
  } finally {
    ended.catch(() => undefined);
    guest.qemu.kill('SIGKILL');
  }
}

async function startWholeGuest(options: WholeGuestOptions): Promise<WholeGuest> {
  const root = `${options.folder}/root`;
  mkdirSync(root);
  execFileSync('mount', ['--bind', '/', root]);
  mkdirSync(guestCgroup);
  followTripleFaults();
  const tripleFaults: string[] = [];
  for (;;) {
    const qemu = startQemu(options, root);
    const screen = followConsole(qemu.stdout);
    try {
      await screen.waitFor(/^GUEST begins/, longestBootSeconds);
      return { qemu, screen, tripleFaults };
    } catch (error) {
      const seen = readTripleFaults().slice(tripleFaults.length);
      await reportGuest({ qemu, screen, tripleFaults });
      qemu.kill('SIGKILL');
      if (runs(qemu)) await once(qemu, 'exit');
      tripleFaults.push(...seen);
      if (seen.length === 0 || tripleFaults.length > mostTripleFaults) throw error;
    }
  }
}

/** Tells on standard error how the guest is, or how it ended. */
async function reportGuest({ qemu, screen }: WholeGuest): Promise<void> {
  // Its console closes a moment before it has ended.
  if (runs(qemu)) await Promise.race([once(qemu, 'exit'), sleep(5000)]);
  console.error(
    [
      `the guest's QEMU ${runs(qemu) ? 'runs' : `has ended (${qemu.signalCode ?? qemu.exitCode})`}; triple faults:`,
      ...readTripleFaults(),
      "the guest's console:",
      ...screen.tail(60),
    ].join('\n'),
  );
}

function runs({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

function startQemu({ uuid, script, devices = [] }: WholeGuestOptions, root: string) {
  const kernel = `/lab/kernel-${/^(\d+\.\d+)/.exec(execFileSync('uname', ['-r'], { encoding: 'utf8' }))?.[1]}`;
  const find = (under: string, pattern: RegExp) =>
    `${under}/${readdirSync(under).find(name => pattern.test(name))}`;
  const share = (tag: string, path: string) => [
    '-virtfs',
    `local,id=${tag},path=${path},mount_tag=${tag},security_model=none,multidevs=remap,readonly=on`,
  ];
  const commandLine = `console=ttyS0 panic=-1 mitigations=off tsc=reliable audit=0 quiet loglevel=4 lab-kernel=${kernel.slice('/lab/kernel-'.length)} lab=guest lab-run=/checkout/${script}`;
  return spawn(
    'sh',
    [
      ...['-c', `echo $$ >${guestCgroup}/cgroup.procs && exec "$@"`, 'sh', 'qemu-system-x86_64'],
      ...['-name', 'guest=tenant,debug-threads=on', '-uuid', uuid],
      ...['-nodefaults', '-no-reboot', '-display', 'none'],
      ...['-machine', 'q35', '-accel', 'kvm', '-cpu', 'host', '-smp', '2'],
      ...['-m', '1024', '-kernel', find(`${kernel}/boot`, /^vmlinuz-/)],
      ...['-initrd', find(kernel, /^init-.*\.cpio$/), '-append', commandLine],
      ...[...share('root', root), ...share('lab', '/lab'), ...share('checkout', '/checkout')],
      ...share('share', '/share'),
      ...['-device', 'vhost-vsock-pci,guest-cid=42', ...devices],
      ...['-serial', 'stdio'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
}

const tracing = '/sys/kernel/tracing';

/** A triple fault resets a guest before its kernel says a word, and QEMU, told not to reboot, ends as after a shutdown. KVM sees it. */
function followTripleFaults(): void {
  const exits = `${tracing}/events/kvm/kvm_exit`;
  // SVM_EXIT_SHUTDOWN
  writeFileSync(`${exits}/filter`, 'exit_reason == 0x7f');
  writeFileSync(`${exits}/enable`, '1');
}

function readTripleFaults(): string[] {
  return readFileSync(`${tracing}/trace`, 'utf8').match(/kvm_exit: .*/g) ?? [];
}
