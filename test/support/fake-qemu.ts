import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** A tap opened as root, then another user's process that looks like its QEMU; perl, since it can ask for a tap. */
const become = `use strict; my ($tap, $user, $group, $enter, $node, @rest) = @ARGV; $^F = 10;
for my $file (split /,/, $enter) { open(C, '>', $file) or die $!; print C "$$\\n"; close(C) or die $!; }
if ($tap ne '') { open(F, '+<', '/dev/net/tun') or die $!;
  ioctl(F, 0x400454ca, pack('Z16 s x22', $tap, 0x1002)) or die $!; }
$) = "$group $group"; $( = $group; $> = $< = $user; umask 0007;
exec { $node } 'qemu-system-x86_64', @rest; die $!;`;

const monitor = fileURLToPath(new URL('fake-monitor.ts', import.meta.url));

/** What looks like a QEMU to the agent, of its own user and group, with a monitor (QMP) of mode 0660. */
export type FakeQemuOptions = {
  readonly uuid: string;
  readonly uid: number;
  readonly gid: number;
  readonly qmpSocket: string;
  /** A tap that it holds, made by the caller. */
  readonly tap?: string;
  /** Folders of cgroups that it is in from its first instant. */
  readonly cgroups: readonly string[];
};

/** Starts it; resolves when its monitor listens. The caller ends it. */
export async function startFakeQemu(options: FakeQemuOptions): Promise<ChildProcess> {
  const { uuid, uid, gid, qmpSocket, tap = '', cgroups } = options;
  const enter = cgroups.map(folder => `${folder}/cgroup.procs`).join();
  const like = ['-uuid', uuid, '-name', 'fake', '-qmp', `unix:${qmpSocket},server=on,wait=off`];
  const child = spawn(
    'perl',
    ['-e', become, tap, `${uid}`, `${gid}`, enter, process.execPath, monitor, ...like],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', code => reject(new Error(`the fake QEMU ended, exit code ${code}`)));
  });
  return child;
}
