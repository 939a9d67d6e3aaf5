import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { startNetScript } from '../../src/agent/bpftrace/net-script.ts';
import { runBpftrace } from '../../src/agent/bpftrace/run.ts';
import { type NetProbe, type NetTotals, startNetProbe } from '../../src/agent/probes/net.ts';
import { realClock } from '../../src/cli/clock.ts';
import { findHierarchies } from '../../src/linux/cgroups.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { beside, needs } from '../support/needs.ts';
import { findOracle, linksOf } from '../support/oracle.ts';
import { endChild, eventually } from '../support/scene.ts';
import { near } from '../support/sched-scene.ts';
import {
  ended,
  layWire,
  makeNamespace,
  type NetworkNamespace,
  send,
  serve,
} from '../support/talkers.ts';

const needed = ['root', 'btf', 'cgroupV1Cpu', 'namespaces', 'socketLengths'] as const;
const both = [...needed, 'addon', 'bpftrace', 'tracefs', 'socketsOfFiles'] as const;
const alone = needs(...both);
const kernelTest = beside(alone);
const unifiedTest = beside(needs(...both, 'cgroupV2'));

const tcplife = findOracle('tcplife');

type Both = { readonly libbpf: NetProbe; readonly bpftrace: NetProbe };

async function startBoth(t: ExecutionContext, cgroupV1 = true): Promise<Both> {
  const context = { run: runBpftrace, roots: hostRoots, clock: realClock, say: () => undefined };
  const bpftrace = startNetScript({ ...context, cgroupV1 });
  t.teardown(bpftrace.stop);
  t.is(await bpftrace.attached, null);
  const libbpf = startNetProbe({ native: loadNative(), cgroupV1, maxInstances: 1024 });
  t.teardown(libbpf.stop);
  return { libbpf, bpftrace };
}

function makeBoxes(t: ExecutionContext, hierarchy = '/sys/fs/cgroup/cpu'): [CgroupBox, CgroupBox] {
  const boxes = [makeCgroupBox(hierarchy), makeCgroupBox(hierarchy)] as const;
  for (const box of boxes) t.teardown(box.end);
  return [...boxes];
}

function makeNet(t: ExecutionContext): NetworkNamespace {
  const namespace = makeNamespace();
  t.teardown(namespace.end);
  return namespace;
}

/** What both tell of a cgroup, once bpftrace has printed it. */
async function totalsOf({ libbpf, bpftrace }: Both, box: CgroupBox) {
  await pause(2200);
  libbpf.look();
  const wanted = libbpf.readTotals().get(box.id) as NetTotals;
  // Where others have the CPUs it prints later.
  const until = performance.now() + 8000;
  for (;;) {
    const got = bpftrace.readTotals().get(box.id) as NetTotals;
    const lacks = (what: 'sentBytes' | 'receivedBytes') => !(got?.[what] >= 0.98 * wanted?.[what]);
    if ((!lacks('sentBytes') && !lacks('receivedBytes')) || performance.now() > until)
      return [wanted, got] as [NetTotals, NetTotals];
    await pause(100);
  }
}

/** Which slot has the quantile. */
function quantileSlot({ rtt }: NetTotals, ratio: number): number {
  let seen = 0;
  return rtt.slots.findIndex(count => {
    seen += count;
    return seen >= ratio * rtt.latencyCount;
  });
}

/** The same bytes and what was sent again, segments within 2 %. */
function sameTraffic(t: ExecutionContext, [libbpf, bpftrace]: [NetTotals, NetTotals]): void {
  const { receivedBytes, sentBytes, retransmits } = libbpf;
  t.like(bpftrace, { receivedBytes, sentBytes, retransmits });
  for (const packets of ['receivedPackets', 'sentPackets'] as const)
    within(t, bpftrace[packets], libbpf[packets], packets);
}

function within(t: ExecutionContext, got: number, wanted: number, what: string): void {
  t.true(Math.abs(got / wanted - 1) <= 0.02, `${what}: ${got} by bpftrace, ${wanted} by libbpf`);
}

/** Debian's tcplife: KiB that each connection of the port sent and received, by what the kernel counts in the socket too. */
async function watchConnections(t: ExecutionContext, path: string, port: number) {
  const child = spawn(path, [], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => endChild(child));
  let printed = '';
  child.stdout.on('data', text => {
    printed += text;
  });
  const closed = new Promise(resolve => child.once('close', resolve));
  await eventually(`${path} is attached`, 20, () => (linksOf(child) >= 1 ? true : null));
  return async () => {
    child.kill('SIGINT');
    await closed;
    const lines = printed.split('\n').map(line => line.trim().split(/\s+/));
    return [3, 5].map(column => {
      // One that nobody waited for yet is told as well.
      const line = lines.findLast(words => words[column] === `${port}`) ?? [];
      return { sentKib: Number(line[6]), receivedKib: Number(line[7]) };
    });
  };
}

// Alone: tcplife tells the connections of all namespaces.
(tcplife ? alone : alone.skip)(
  'libbpf, bpftrace and tcplife tell the same of one connection, to who connects and to who accepts',
  async t => {
    t.timeout(60_000);
    const both = await startBoth(t);
    const end = await watchConnections(t, tcplife ?? '', 4000);
    const namespace = makeNet(t);
    const [client, server] = makeBoxes(t);
    const at = { namespace, host: '127.0.0.1', port: 4000 };
    await Promise.all([serve(server, at, 1000), send(client, at, 10_000_000)].map(ended));
    const [accepted, connected] = await end();
    const [sender, receiver] = await Promise.all([totalsOf(both, client), totalsOf(both, server)]);
    sameTraffic(t, sender);
    sameTraffic(t, receiver);
    t.like(sender[1], { sentBytes: 10_000_000, receivedBytes: 1000 });
    t.like(receiver[1], { sentBytes: 1000, receivedBytes: 10_000_000 });
    t.deepEqual(connected, { sentKib: 9765.63, receivedKib: 0.98 });
    t.deepEqual(accepted, { sentKib: 0.98, receivedKib: 9765.63 });
    t.like(both.bpftrace.lost(), { map_full: 0, lost_events: 0, helper_failed: 0, recursion: 0 });
  },
);

/** So many connections one after another: a request of 3 kB, an answer of 30 kB. Both ends are perl, which calls the kernel plainly. */
function exchange(
  [client, server]: [CgroupBox, CgroupBox],
  [near, far]: [NetworkNamespace, NetworkNamespace],
  connections: number,
) {
  const run = (box: CgroupBox, { name }: NetworkNamespace, script: string) =>
    box.spawn('nsenter', `--net=/run/netns/${name}`, 'perl', '-MIO::Socket', '-e', script);
  const serving = run(
    server,
    far,
    `my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => '10.99.0.2', LocalPort => 4000) or die;
    for (1 .. ${connections}) { my $c = $s->accept; while (sysread $c, my $b, 65536) {} syswrite $c, 'x' x 30_000; close $c; }`,
  );
  const asking = run(
    client,
    near,
    `for (1 .. ${connections}) { my $c; select undef, undef, undef, 0.02 until $c = IO::Socket::INET->new('10.99.0.2:4000');
      syswrite $c, 'x' x 3000; shutdown $c, 1; while (sysread $c, my $b, 65536) {} close $c; }`,
  );
  return Promise.all([serving, asking].map(ended));
}

kernelTest(
  'round-trip times and what was sent again by libbpf and bpftrace: counts within 2 %, p50 and p99 within one bucket',
  async t => {
    t.timeout(90_000);
    const both = await startBoth(t);
    const [here, there] = [makeNet(t), makeNet(t)];
    const wire = await layWire(here, there, { delayMs: 5, dropEvery: 40 });
    t.teardown(wire.end);
    const boxes = makeBoxes(t);
    // As often as the agent looks, and the script.
    const looking = setInterval(both.libbpf.look, 1000);
    t.teardown(() => clearInterval(looking));
    await exchange(boxes, [here, there], 150);
    const ofBoth = await Promise.all(
      boxes.map(box =>
        eventually('the end of the last connection', 20, async () => {
          const found = await totalsOf(both, box);
          return found[0].rtt.latencyCount >= 150 ? found : null;
        }),
      ),
    );
    for (const totals of ofBoth) {
      const [libbpf, bpftrace] = totals;
      sameTraffic(t, totals);
      t.log(
        libbpf.rtt.latencyCount,
        libbpf.rtt.latencySumNs,
        bpftrace.rtt.latencyCount,
        bpftrace.rtt.latencySumNs,
      );
      // Each connection gives one at its end, and one more where a look meets it: the looks of the two are at other moments.
      const { latencyCount: count, latencySumNs: sum } = libbpf.rtt;
      near(t, bpftrace.rtt.latencyCount, count, 0.02 * count + 3, 'round-trip times');
      near(t, bpftrace.rtt.latencySumNs, sum, (0.02 + 3 / count) * sum, 'their sum');
      for (const ratio of [0.5, 0.99]) {
        const [wanted, got] = totals.map(each => quantileSlot(each, ratio));
        t.true(Math.abs((got ?? -9) - (wanted ?? 0)) <= 1, `p${ratio * 100}: ${got}, ${wanted}`);
      }
    }
  },
);

kernelTest(
  'of a connection that two processes of each end use at once, in both directions, bytes agree within 2 %',
  async t => {
    t.timeout(90_000);
    const both = await startBoth(t);
    const namespace = makeNet(t);
    const boxes = makeBoxes(t);
    const chat = `sub chat { my $s = shift; my $reader = fork;
      if (!$reader) { 1 while sysread $s, my $b, 2000; exit }
      syswrite $s, 'x' x 1000 for 1 .. 60_000; shutdown $s, 1; waitpid $reader, 0 }`;
    const run = (box: CgroupBox, script: string) =>
      box.spawn(
        'nsenter',
        `--net=/run/netns/${namespace.name}`,
        'perl',
        '-MIO::Socket',
        '-e',
        chat + script,
      );
    const [client, server] = boxes;
    const children = [
      run(
        server,
        `chat(IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 4000)->accept)`,
      ),
      run(
        client,
        `my $c; select undef, undef, undef, 0.02 until $c = IO::Socket::INET->new('127.0.0.1:4000'); chat($c)`,
      ),
    ];
    await Promise.all(children.map(ended));
    for (const [libbpf, bpftrace] of await Promise.all(boxes.map(box => totalsOf(both, box)))) {
      t.like(libbpf, { sentBytes: 60_000_000, receivedBytes: 60_000_000 });
      for (const name of ['sentBytes', 'receivedBytes', 'sentPackets', 'receivedPackets'] as const)
        within(t, bpftrace[name], libbpf[name], name);
    }
  },
);

kernelTest(
  'what a connection carries while it lasts is told meanwhile, and who holds it then takes it over',
  async t => {
    t.timeout(60_000);
    const { bpftrace } = await startBoth(t);
    const namespace = makeNet(t);
    const [[first, server], [second]] = [makeBoxes(t), makeBoxes(t)];
    const at = { namespace, host: '127.0.0.1', port: 4000 };
    const listening = serve(server, at, 0);
    const sending = send(first, at, 1_000_000, 8_000_000);
    // One call, of which the kernel sends the most after it.
    await eventually('what was sent and received at first', 10, () => {
      const totals = bpftrace.readTotals();
      const [sent, received] = [
        totals.get(first.id)?.sentBytes,
        totals.get(server.id)?.receivedBytes,
      ];
      return sent === 1_000_000 && received === 1_000_000 ? true : null;
    });
    writeFileSync(`${second.folder}/cgroup.procs`, `${sending.pid}`);
    sending.kill('SIGUSR2');
    await Promise.all([listening, sending].map(ended));
    await pause(2200);
    const [before, after] = [first, second].map(box => bpftrace.readTotals().get(box.id));
    t.log(before?.sentBytes, after?.sentBytes);
    // What the kernel sends during the first call of the second is told with what was sent before it.
    t.is((before?.sentBytes ?? 0) + (after?.sentBytes ?? 0), 9_000_000);
    t.true((before?.sentBytes ?? 0) >= 1_000_000 && (after?.sentBytes ?? 0) >= 1_000_000);
  },
);

kernelTest(
  'what a connection carried before the script was there is charged to nobody',
  async t => {
    t.timeout(60_000);
    const namespace = makeNet(t);
    const [client, server] = makeBoxes(t);
    const at = { namespace, host: '127.0.0.1', port: 4000 };
    const listening = serve(server, at, 0);
    const sending = send(client, at, 5_000_000, 300_000);
    await eventually('what was sent at first', 10, () => namespace.tcp('InSegs') > 80 || null);
    const { bpftrace } = await startBoth(t);
    sending.kill('SIGUSR2');
    await Promise.all([listening, sending].map(ended));
    await pause(2200);
    for (const { id } of [client, server]) {
      const { receivedBytes, sentBytes, receivedPackets } =
        bpftrace.readTotals().get(id) ?? t.fail();
      t.log(receivedBytes, sentBytes, receivedPackets);
      // The first call that is seen only begins to count.
      t.true(receivedBytes + sentBytes <= 300_000 && receivedPackets > 0);
    }
  },
);

unifiedTest('by cgroup v2 it is the same', async t => {
  t.timeout(60_000);
  const v2 = findHierarchies(hostRoots).v2 ?? t.fail();
  const both = await startBoth(t, false);
  const namespace = makeNet(t);
  const [client, server] = makeBoxes(t, v2);
  const at = { namespace, host: '127.0.0.1', port: 4000 };
  await Promise.all([serve(server, at, 1000), send(client, at, 1_000_000)].map(ended));
  for (const totals of await Promise.all([client, server].map(box => totalsOf(both, box))))
    sameTraffic(t, totals);
  t.is(both.bpftrace.readTotals().get(client.id)?.sentBytes, 1_000_000);
});
