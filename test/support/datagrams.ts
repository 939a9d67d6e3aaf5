import type { CgroupBox } from './cgroup-box.ts';
import { ended, type NetworkNamespace } from './talkers.ts';

/** Numbers of system calls that perl has no names for: sendmmsg, recvmmsg. */
const [sendmmsg, recvmmsg] = process.arch === 'arm64' ? [269, 243] : [307, 299];

const setUp = `use strict; use Socket qw(:all);
my ($address, $other) = @ARGV;
my $isSix = $address =~ /:/;
my $domain = $isSix ? AF_INET6 : AF_INET;
sub at { my $port = shift;
  return $isSix ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address)) : pack_sockaddr_in($port, inet_aton($address)); }
sub udp { socket(my $s, $domain, SOCK_DGRAM, 0) or die "socket: $!"; return $s; }
sub gets { my ($s, $most, $flags) = @_; defined(recv($s, my $data, $most, $flags || 0)) or die "recv: $!"; return $data; }
sub gives { my ($s, $bytes) = @_; my $n = send($s, 'x' x $bytes, 0); defined $n && $n == $bytes or die "send: $!"; }
# Of so many messages of so many bytes: the array that sendmmsg and recvmmsg take, and what it points to.
sub messages { my ($count, $bytes) = @_; my (@kept, $all);
  for (1 .. $count) { my $data = 'x' x $bytes; my $part = pack('P Q', $data, $bytes); push @kept, \\$data, \\$part;
    $all .= pack('Q L x4 P Q Q Q l x4 L x4', 0, 0, $part, 1, 0, 0, 0, 0); }
  return ($all, \\@kept); }
my $in = udp(); bind($in, at(0)) or die "bind: $!"; setsockopt($in, SOL_SOCKET, SO_RCVBUF, 1 << 20);
my $out = udp(); connect($out, getsockname($in)) or die "connect: $!";
`;

/** The child has the parent's sockets, and is in the other cgroup before it uses one of them. */
const divide = `pipe(my $ready, my $say);
my $child = fork;
if (!$child) {
  open(my $c, '>', "$other/cgroup.procs") or die "$other: $!"; syswrite($c, $$) or die "$other: $!"; close $c;
  syswrite $say, 'x';
  receive(); exit 0;
}
close $say; sysread($ready, my $x, 1) or die 'the child has ended';
give();
waitpid $child, 0; exit($? ? 1 : 0);
`;

/**
 * Two processes with one pair of UDP sockets, which the first opened: it sends in one cgroup what the second receives in
 * another. `give` and `receive` are perl that uses `$out`, `$in`, `gives(socket, bytes)`, `gets(socket, most, flags)`.
 * @returns exit code; 0 where everything went as the script wants it
 */
export async function talkUdp(
  boxes: { readonly from: CgroupBox; readonly to: CgroupBox },
  at: { readonly namespace: NetworkNamespace; readonly address: '127.0.0.1' | '::1' },
  scripts: { readonly give: string; readonly receive: string },
): Promise<number | null> {
  const numbers = `my ($sendmmsg, $recvmmsg) = (${sendmmsg}, ${recvmmsg});\n`;
  const subs = `sub receive { ${scripts.receive} }\nsub give { ${scripts.give} }\n`;
  // `ip netns exec` would mount a /sys without cgroups.
  const enter = ['nsenter', `--net=/run/netns/${at.namespace.name}`];
  const script = setUp + numbers + subs + divide;
  const child = boxes.from.spawn(...enter, 'perl', '-e', script, at.address, boxes.to.folder);
  await ended(child);
  return child.exitCode;
}
