import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import { decodeNetWords, startNetScript } from '../../../src/agent/bpftrace/net-script.ts';
import { decodeUdpWords, startUdpScript } from '../../../src/agent/bpftrace/udp-script.ts';
import { stagedScript } from '../support/staged-script.ts';

const scene = (sys = '/nowhere') => stagedScript({ cgroupV1: true, roots: { sys } });

test('words of UDP are those of their cgroup; a task of an autogroup is the root’s', t => {
  const words = {
    '7,0': 100,
    '7,2': 3,
    '8,1': 0,
    '8,3': 1,
    '0,1': 10,
    '0,3': 1,
    '1,1': 5,
    '1,3': 1,
  };
  const none = { receivedBytes: 0, sentBytes: 0, receivedPackets: 0, sentPackets: 0 };
  t.deepEqual(
    [...decodeUdpWords(new Map(Object.entries(words)))],
    [
      [7, { ...none, receivedBytes: 100, receivedPackets: 3 }],
      [8, { ...none, sentPackets: 1 }],
      [1, { ...none, sentBytes: 15, sentPackets: 2 }],
    ],
  );
});

test('what is forgotten is answered, and is not told until it grows', t => {
  const { context, print } = scene();
  const { readTotals, forget } = startUdpScript(context);
  print('words', { '7,1': 100, '7,3': 2, '0,1': 10, '0,3': 1, '77,1': 1, '77,3': 1 });
  const last = forget([7, 1, 99]);
  t.deepEqual(
    [...last].map(([id, { sentBytes }]) => [id, sentBytes]),
    [
      [7, 100],
      [1, 10],
    ],
  );
  t.deepEqual([...readTotals().keys()], [77]);
  print('words', { '7,1': 130, '7,3': 3 });
  t.like(readTotals().get(7), { sentBytes: 30, sentPackets: 1 });
});

test('words of TCP and slots of its round-trip times are those of their cgroup', t => {
  const words = { '7,0': 1, '7,1': 2, '7,2': 3, '7,3': 4, '7,4': 5, '7,5': 600, '8,3': 1 };
  const rtt = { '7,40': 2, '7,159': 1 };
  const decoded = decodeNetWords(new Map(Object.entries(words)), new Map(Object.entries(rtt)));
  t.deepEqual([...decoded.keys()], [7, 8]);
  const { rtt: latencies, ...counts } = decoded.get(7) ?? t.fail();
  t.deepEqual(counts, {
    ...{ receivedBytes: 1, sentBytes: 2, receivedPackets: 3, sentPackets: 4, retransmits: 5 },
  });
  t.like(latencies, { latencyCount: 3, latencySumNs: 600 });
  t.deepEqual([latencies.slots[40], latencies.slots[159], latencies.slots.length], [2, 1, 160]);
  t.is(decoded.get(8)?.rtt.latencyCount, 0);
});

test('connections whose owner or whose end was not seen are told as lost', t => {
  const { context, print } = scene();
  const script = startNetScript(context);
  t.like(script.lost(), { owner: 0, recursion: 0, map_full: 0 });
  print('lost', { 0: 4, 1: 2 });
  t.like(script.lost(), { owner: 4, recursion: 2, map_full: 0 });
});

for (const [name, start] of [
  ['udp', startUdpScript],
  ['net', startNetScript],
] as const)
  test(`${name}: a kernel without the tracepoints is refused, with the one that has them`, t => {
    const sys = mkdtempSync(`${tmpdir()}/sculptor-script-`);
    t.teardown(() => rmSync(sys, { recursive: true }));
    const events = `${sys}/kernel/tracing/events`;
    for (const event of ['sock/inet_sock_set_state', 'tcp/tcp_destroy_sock'])
      mkdirSync(`${events}/${event}`, { recursive: true });
    const { context, runs } = scene(sys);
    t.throws(() => start(context), {
      code: 'KERNEL_MISSING',
      message:
        'this kernel has no tracepoint sock:sock_send_length, sock:sock_recv_length, which came with Linux 6.3',
    });
    for (const event of ['sock_send_length', 'sock_recv_length'])
      mkdirSync(`${events}/sock/${event}`);
    start(context);
    t.is(runs.length, 1);
  });
