import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { cgroupFolder, readCgroupLayout } from '../../src/linux/cgroups.ts';
import { findMemoryHierarchy } from '../../src/linux/memory.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { removeCgroup } from './cgroup-box.ts';
import { startFakeQemu } from './fake-qemu.ts';
import { endChild } from './scene.ts';

/** Something for each source to tell: a cgroup that runs, faults, reads a disk and speaks TCP and UDP, and in it a VM of another user. */
export type PrivilegeScene = {
  readonly cgroup: string;
  readonly uuid: string;
  /** A user and group that nobody else is, for who looks. */
  readonly uid: number;
  /** Whose members may ask the VM's monitor. */
  readonly qmpGroup: number;
  readonly end: () => Promise<void>;
};

const [uid, qemuUid, qmpGroup] = [64_901, 64_902, 64_903];

/** As root. What was made is removed again when the rest cannot be. */
export async function stagePrivilegeScene(): Promise<PrivilegeScene> {
  const undo: (() => unknown)[] = [];
  const end = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    return { ...(await stage(undo)), uid, qmpGroup, end };
  } catch (error) {
    await end();
    throw error;
  }
}

async function stage(undo: (() => unknown)[]): Promise<{ cgroup: string; uuid: string }> {
  const cgroup = `/sculptor-privileges-${process.pid}`;
  const folders = makeCgroups(cgroup, undo);
  const folder = mkdtempSync('/var/tmp/sculptor-privileges-');
  undo.push(() => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  const [disk, tap, port] = [makeDisk(folder, undo), makeTap(undo), await listen(undo)];
  const enter = folders.map(each => `echo $$ >${each}/cgroup.procs`).join('\n');
  const started = (child: ChildProcess): void => void undo.push(() => endChild(child));
  started(
    spawn('bash', ['-c', `${enter}\n${busy(disk, port)}`], {
      stdio: ['pipe', 'ignore', 'inherit'],
    }),
  );
  const [uuid, run] = [randomUUID(), `${folder}/qemu`];
  mkdirSync(run, { mode: 0o750 });
  chmodSync(run, 0o750);
  chownSync(run, qemuUid, qmpGroup);
  const vm = {
    uuid,
    uid: qemuUid,
    gid: qmpGroup,
    qmpSocket: `${run}/qmp.sock`,
    tap,
    cgroups: folders,
  };
  started(await startFakeQemu(vm));
  return { cgroup, uuid };
}

/** In a loop: forks, faults, reads past the page cache, a connection, a datagram. Ends with who started it. */
function busy(disk: string, port: number): string {
  return `while :; do
dd if=${disk} of=/dev/null iflag=direct bs=4k count=8 status=none
exec 3<>/dev/tcp/127.0.0.1/${port}; echo hello >&3; read -r -u 3 _; exec 3>&-
echo hello >/dev/udp/127.0.0.1/${port}
read -r -t 0.05 _; [ $? -gt 128 ] || exit 0
done`;
}

function makeCgroups(path: string, undo: (() => unknown)[]): string[] {
  const layout = readCgroupLayout(hostRoots);
  const memory = findMemoryHierarchy(hostRoots);
  if (layout.version === 2) writeFileSync(`${layout.cpu}/cgroup.subtree_control`, '+memory +io');
  const folders = [...new Set([layout.cpu, memory?.root ?? layout.cpu])].map(root =>
    cgroupFolder(root, path),
  );
  for (const folder of folders) {
    mkdirSync(folder);
    undo.push(() => removeCgroup(folder));
  }
  return folders;
}

function makeDisk(folder: string, undo: (() => unknown)[]): string {
  const image = `${folder}/disk`;
  writeFileSync(image, Buffer.alloc(1 << 20));
  spawnSync('modprobe', ['-q', 'loop']);
  const disk = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim();
  undo.push(() => execFileSync('losetup', ['--detach', disk]));
  return disk;
}

function makeTap(undo: (() => unknown)[]): string {
  const name = `sculptp${process.pid % 1_000_000}`;
  spawnSync('modprobe', ['-q', 'tun']);
  execFileSync('ip', ['tuntap', 'add', 'dev', name, 'mode', 'tap']);
  undo.push(() => execFileSync('ip', ['link', 'del', name]));
  return name;
}

/** Answers with what it is told. */
async function listen(undo: (() => unknown)[]): Promise<number> {
  const server = createServer(socket => socket.on('error', () => undefined).pipe(socket));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  undo.push(() => void server.close());
  return (server.address() as AddressInfo).port;
}
