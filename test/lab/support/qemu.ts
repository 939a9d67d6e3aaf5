import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const checkout = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');

export type MachineOptions = {
  /** Which of Debian's kernels: a name that `build-lab.sh --kernels` lists. */
  readonly kernel: string;
  /** Process 1: a shell, quick; or systemd, which owns every cgroup. */
  readonly init: 'plain' | 'systemd';
  readonly memoryMiB: number;
  /** An interactive shell on the second console (`shell.sock`). */
  readonly shell: boolean;
  /** What the kernel is told beside what every lab is, such as `lockdown=integrity`. */
  readonly kernelArguments?: string;
};

/** What `build-lab.sh` made, and where this lab keeps its sockets and what it shares. */
export type MachineFolders = { readonly lab: string; readonly run: string };

/**
 * Starts the machine: 4 CPUs on 2 NUMA nodes at distances 10 and 21, AMD with SVM so that KVM nests, all emulated (KVM of
 * the outer machine, where there is one, need not be able to start a stock kernel). It sees the outer machine's root file
 * system without what is mounted in it, read-only. It dies with us: the kernel ends it when our process does.
 */
export function startQemu(options: MachineOptions, { lab, run }: MachineFolders): ChildProcess {
  const script =
    'echo "lab: begins" >&2; mkdir "$1" && mount --bind / "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"';
  const root = `${run}/root`;
  const rootless = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const own = ['unshare', '--mount', ...rootless, '--propagation', 'private'];
  return spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', 'flock', '--no-fork', `${lab}/running`, ...own],
      ...[
        'sh',
        '-c',
        script,
        'sh',
        root,
        `${lab}/qemu/usr/bin/qemu-system-x86_64`,
        ...['qemu', 'seabios'].flatMap(name => ['-L', `${lab}/qemu/usr/share/${name}`]),
        ...machine(options, lab, run, root),
      ],
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Modules are of one build with their emulator.
      env: { ...process.env, QEMU_MODULE_DIR: `${lab}/qemu/usr/lib/x86_64-linux-gnu/qemu` },
    },
  );
}

function machine(options: MachineOptions, lab: string, run: string, root: string): string[] {
  const kernel = `${lab}/kernel-${options.kernel}`;
  const perNode = options.memoryMiB / 2;
  const share = (tag: string, path: string, readonly: boolean): string[] => [
    '-virtfs',
    `local,id=${tag},path=${path},mount_tag=${tag},security_model=none,multidevs=remap${readonly ? ',readonly=on' : ''}`,
  ];
  const socket = (name: string): string[] => [
    '-chardev',
    `socket,id=${name},path=${run}/${name}.sock,server=on,wait=off`,
  ];
  return [
    ...['-name', 'lab,debug-threads=on', '-nodefaults', '-no-reboot', '-display', 'none'],
    ...['-nic', 'none', '-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512'],
    ...['-cpu', 'EPYC,+svm,check=off', '-m', `${options.memoryMiB}`],
    ...['-smp', '4,sockets=2,cores=2,threads=1'],
    ...[
      '-object',
      `memory-backend-ram,id=m0,size=${perNode}M`,
      '-numa',
      'node,nodeid=0,cpus=0-1,memdev=m0',
    ],
    ...[
      '-object',
      `memory-backend-ram,id=m1,size=${perNode}M`,
      '-numa',
      'node,nodeid=1,cpus=2-3,memdev=m1',
    ],
    ...['-numa', 'dist,src=0,dst=1,val=21'],
    ...['-kernel', `${kernel}/boot/${only(`${kernel}/boot`, /^vmlinuz-/)}`],
    ...['-initrd', `${kernel}/${only(kernel, /^init-.*\.cpio$/)}`, '-append', commandLine(options)],
    ...share('root', root, true),
    ...share('lab', lab, true),
    ...share('checkout', checkout, true),
    ...share('share', `${run}/share`, false),
    ...['-device', 'virtio-serial-pci', ...socket('agent'), ...socket('shell')],
    ...['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
    ...['-device', 'virtconsole,chardev=shell', '-serial', 'stdio'],
    ...['-qmp', `unix:${run}/qmp.sock,server=on,wait=off`],
  ];
}

function commandLine({ kernel, init, shell, kernelArguments = '' }: MachineOptions): string {
  return [
    'console=ttyS0 panic=-1 mitigations=off tsc=reliable audit=0 quiet loglevel=4',
    `lab-kernel=${kernel} lab=${init}${shell ? ' lab-shell' : ''}`,
    kernelArguments,
  ].join(' ');
}

function only(folder: string, pattern: RegExp): string {
  const found = readdirSync(folder).filter(name => pattern.test(name));
  if (found.length === 1 && found[0] !== undefined) return found[0];
  throw new Error(`${folder}: ${found.length} files match ${pattern}, wanted one`);
}
