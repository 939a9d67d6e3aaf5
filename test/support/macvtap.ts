import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { endChild } from './scene.ts';
import type { NetworkNamespace } from './talkers.ts';

/** A macvtap of the test's own on one end of a cable whose other end has 10.97.0.1, and knows 10.97.0.2 at the macvtap. */
export type Macvtap = {
  readonly name: string;
  /** What QEMU holds. */
  readonly device: string;
  readonly mac: string;
  /** MAC of the other end. */
  readonly farMac: string;
  readonly end: () => void;
};

let made = 0;

/** In the namespace, or in the one that this process is in. */
export function makeMacvtap(mac: string, namespace?: NetworkNamespace): Macvtap {
  made += 1;
  const id = `${process.pid % 1_000_000}${made}`;
  const [name, near, far] = [`smv${id}`, `smn${id}`, `smf${id}`];
  const at = namespace ? ['-n', namespace.name] : [];
  const ip = (...args: string[]): string =>
    execFileSync('ip', [...at, ...args], { encoding: 'utf8' });
  // The device is called by it, in one /dev for all namespaces.
  const index = 100_000_000 + (process.pid % 1_000_000) * 100 + made;
  ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far);
  const end = (): void => void ip('link', 'del', near);
  try {
    ip(
      'link',
      'add',
      'link',
      near,
      'name',
      name,
      'index',
      `${index}`,
      'type',
      'macvtap',
      'mode',
      'bridge',
    );
    ip('link', 'set', name, 'address', mac);
    for (const device of [near, far, name]) {
      // Nobody speaks on it unasked: no IPv6.
      ip('link', 'set', device, 'addrgenmode', 'none');
      ip('link', 'set', device, 'up');
    }
    ip('addr', 'add', '10.97.0.1/24', 'dev', far);
    ip('neigh', 'add', '10.97.0.2', 'lladdr', mac, 'dev', far);
    const farMac = /link\/ether (\S+)/.exec(ip('link', 'show', far))?.[1] ?? '';
    return { name, device: `/dev/tap${index}`, mac, farMac, end };
  } catch (error) {
    end();
    throw error;
  }
}

/** A process that holds a macvtap as a QEMU would, with the header of virtio before each frame. */
export type Holder = {
  readonly tgid: number;
  /** Frames of so many bytes, to the other end. */
  readonly send: (count: number, bytes: number) => Promise<void>;
  /** Takes so many frames out, each of so many bytes. */
  readonly take: (count: number, bytes: number) => Promise<void>;
  readonly end: () => Promise<void>;
};

const script = `use strict; use Fcntl; $| = 1; my ($device, $from, $to) = @ARGV;
sysopen(my $tap, $device, O_RDWR) or die "$device: $!";
print "open\\n";
while (<STDIN>) {
  alarm 10;
  my ($what, $count, $bytes) = split;
  for (1 .. $count) {
    my $frame = pack('x10 H12 H12 n', $to, $from, 0x88b5) . 'x' x ($bytes - 14);
    my $n = $what eq 'send' ? syswrite($tap, $frame) : sysread($tap, my $data, 65536);
    defined $n && $n == $bytes + 10 or die "$what: " . ($n // $!);
  }
  alarm 0;
  print "done\\n";
}`;

/** In the namespace, or in ours; resolves when it holds the macvtap. */
export async function holdMacvtap(macvtap: Macvtap, namespace?: NetworkNamespace): Promise<Holder> {
  const bare = (mac: string): string => mac.replaceAll(':', '');
  const enter = namespace ? ['nsenter', `--net=/run/netns/${namespace.name}`] : [];
  const perl = ['perl', '-e', script, macvtap.device, bare(macvtap.mac), bare(macvtap.farMac)];
  const [command = '', ...args] = [...enter, ...perl];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const answer = async (wanted: string): Promise<void> => {
    const { value } = await lines.next();
    if (value !== wanted) throw new Error(`the holder of ${macvtap.name} has ended`);
  };
  const ask = async (what: string, count: number, bytes: number): Promise<void> => {
    child.stdin.write(`${what} ${count} ${bytes}\n`);
    await answer('done');
  };
  try {
    await answer('open');
  } catch (error) {
    await endChild(child);
    throw error;
  }
  return {
    tgid: child.pid ?? 0,
    send: (count, bytes) => ask('send', count, bytes),
    take: (count, bytes) => ask('take', count, bytes),
    end: () => endChild(child),
  };
}

/**
 * Datagrams from the other end to the macvtap; Ethernet, IP and UDP add 42 bytes to each. Of a socket each 50: one waits where
 * too much of its own is still under way.
 */
export function sendToMacvtap(count: number, bytes: number, namespace?: NetworkNamespace): void {
  const sender = `use strict; use Socket; my $s;
    for (0 .. ${count - 1}) {
      $_ % 50 or socket($s, AF_INET, SOCK_DGRAM, 0) or die $!;
      defined(send($s, 'x' x ${bytes}, 0, pack_sockaddr_in(9, inet_aton('10.97.0.2')))) or die $!;
    }`;
  const enter = namespace ? ['nsenter', `--net=/run/netns/${namespace.name}`] : [];
  const [command = '', ...args] = [...enter, 'perl', '-e', sender];
  execFileSync(command, args, { timeout: 5000 });
}
