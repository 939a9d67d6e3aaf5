/** Of the system call interface; perl's Socket has not all of them. */
const [MSG_PEEK, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_WAITFORONE] = [0x2, 0x40, 0x2000, 0x10000];

const sizes = '(0, 1, (1400) x 30, 30000)';

/** For `talkUdp`: 34 datagrams of 72,008 bytes together, an empty one among them. */
export const ofAllSizes = {
  give: `gives($out, $_) for ${sizes}; syswrite($out, 'written') == 7 or die $!;`,
  receive: `for my $n ${sizes} { length(gets($in, 65536)) == $n or die 'not as it was sent'; }
    sysread($in, my $data, 100) == 7 or die $!;`,
};

/** 20 datagrams of 300 bytes each, by one call that sends and a few that receive. */
export const byMany = {
  give: `my ($all, $kept) = messages(20, 300);
    syscall($sendmmsg, fileno($out), $all, 20, 0) == 20 or die "sendmmsg: $!";`,
  receive: `my ($left, $flags) = (20, ${MSG_WAITFORONE});
    while ($left > 0) { my ($all, $kept) = messages(20, 500);
      my $n = syscall($recvmmsg, fileno($in), $all, 20, $flags, 0); $n > 0 or die "recvmmsg: $!"; $left -= $n; }`,
};

/** Seven datagrams of 5030 bytes together that are sent, and five of 4400 that are received, beside much that is none. */
export const beside = {
  // Copies with their headers; a send that fails; what comes back of one from the queue of errors; ICMP, unix, netlink, TCP.
  give: `socket(my $raw, AF_INET, SOCK_RAW, 17) or die $!;
    gives($out, 1000) for 1 .. 5; length(gets($raw, 65536)) == 1028 or die 'no copy' for 1 .. 5;
    my $refused = udp(); connect($refused, at(9)) or die $!; gives($refused, 10);
    defined(send($refused, 'x', 0)) and die 'nobody refused';
    setsockopt($refused, 0, 11, pack('i', 1)) or die "IP_RECVERR: $!";
    gives($refused, 20); gets($refused, 100, ${MSG_ERRQUEUE}) eq 'x' x 20 or die 'no error queued';
    open(my $range, '>', '/proc/sys/net/ipv4/ping_group_range') or die $!; print $range '0 0'; close $range or die $!;
    socket(my $ping, AF_INET, SOCK_DGRAM, 1) or die $!; defined(send($ping, pack('C2 n3', 8, 0, 0, 0, 1), 0, at(0))) or die $!;
    socketpair(my $a, my $b, AF_UNIX, SOCK_DGRAM, 0) or die $!; gives($a, 50); gets($b, 100);
    system('ip', 'link', 'show', 'lo') == 0 or die 'ip';
    socket(my $listener, AF_INET, SOCK_STREAM, 0) or die $!; listen($listener, 1) or die $!;
    socket(my $tcp, AF_INET, SOCK_STREAM, 0) or die $!; connect($tcp, getsockname($listener)) or die $!; gives($tcp, 60);`,
  // What is looked at first, what is not there, and the end of a socket that was shut down.
  receive: `for (1 .. 5) { gets($in, 65536, ${MSG_PEEK}); gets($in, $_ == 5 ? 400 : 65536); }
    defined(recv($in, my $data, 100, ${MSG_DONTWAIT})) and die 'more than was sent';
    my $shut = udp(); connect($shut, at(9)) or die $!; shutdown($shut, 0) or die "shutdown: $!";
    gets($shut, 100) eq '' or die 'not shut';`,
};
