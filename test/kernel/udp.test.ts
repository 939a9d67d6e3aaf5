import type { ExecutionContext } from 'ava';
import { startUdpProbe, type UdpProbe, type UdpTotals } from '../../src/agent/probes/udp.ts';
import { findHierarchies } from '../../src/linux/cgroups.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { beside, byMany, ofAllSizes } from '../support/datagram-loads.ts';
import { talkUdp } from '../support/datagrams.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { makeNamespace, type NetworkNamespace } from '../support/talkers.ts';
import { startTold } from '../support/told-agent.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'namespaces', 'socketLengths');

/** Of the system call interface; perl's Socket has not all of them. */
const MSG_MORE = 0x8000;
const [UDP_SEGMENT, UDP_GRO] = [103, 104];

const nothingLost = { map_full: 0, memory: 0, recursion: 0 };
const addresses = ['127.0.0.1', '::1'] as const;

function start(t: ExecutionContext, { cgroupV1 = true, maxInstances = 1024 } = {}): UdpProbe {
  const probe = startUdpProbe({ native: loadNative(), cgroupV1, maxInstances });
  t.teardown(probe.stop);
  return probe;
}

function makeBox(t: ExecutionContext, hierarchy = '/sys/fs/cgroup/cpu'): CgroupBox {
  const box = makeCgroupBox(hierarchy);
  t.teardown(box.end);
  return box;
}

function makeNet(t: ExecutionContext): NetworkNamespace {
  const namespace = makeNamespace();
  t.teardown(namespace.end);
  return namespace;
}

const sent = (packets: number, bytes: number): UdpTotals => ({
  ...{ sentPackets: packets, sentBytes: bytes },
  ...{ receivedPackets: 0, receivedBytes: 0 },
});
const received = (packets: number, bytes: number): UdpTotals => ({
  ...{ sentPackets: 0, sentBytes: 0 },
  ...{ receivedPackets: packets, receivedBytes: bytes },
});

for (const address of addresses)
  kernelTest(
    `${address}: each datagram is charged to who sends it and to who receives it, whoever opened the socket`,
    async t => {
      const probe = start(t);
      const [namespace, from, to] = [makeNet(t), makeBox(t), makeBox(t)];
      // The largest comes in fragments, and is one all the same; so is an empty one.
      namespace.ip('link', 'set', 'lo', 'mtu', '1500');
      const code = await talkUdp({ from, to }, { namespace, address }, ofAllSizes);
      t.is(code, 0);
      const totals = probe.readTotals();
      t.deepEqual(totals.get(from.id), sent(34, 72_008));
      t.deepEqual(totals.get(to.id), received(34, 72_008));
      t.deepEqual(probe.lost(), nothingLost);
    },
  );

kernelTest('each message of sendmmsg and of recvmmsg is one', async t => {
  const probe = start(t);
  const [namespace, from, to] = [makeNet(t), makeBox(t), makeBox(t)];
  const code = await talkUdp({ from, to }, { namespace, address: '127.0.0.1' }, byMany);
  t.is(code, 0);
  const totals = probe.readTotals();
  t.deepEqual(totals.get(from.id), sent(20, 6000));
  t.deepEqual(totals.get(to.id), received(20, 6000));
});

kernelTest(
  'each call is one, whether the kernel divides what it sends or puts it together',
  async t => {
    const probe = start(t);
    const [namespace, from, to, whole] = [makeNet(t), makeBox(t), makeBox(t), makeBox(t)];
    const segments = (option: number, value: number, socket: string) =>
      `setsockopt(${socket}, 17, ${option}, pack('i', ${value})) or die "setsockopt: $!";`;
    const give = `${segments(UDP_SEGMENT, 500, '$out')} gives($out, 5000);`;
    const one = { namespace, address: '127.0.0.1' } as const;
    t.is(await talkUdp({ from, to }, one, { give, receive: 'gets($in, 65536) for 1 .. 10;' }), 0);
    t.deepEqual(probe.readTotals().get(from.id), sent(1, 5000));
    t.deepEqual(probe.readTotals().get(to.id), received(10, 5000));
    // The option is set by who sends, before he does: the socket is the same.
    const putTogether = {
      give: segments(UDP_GRO, 1, '$in') + give,
      receive: `length(gets($in, 65536)) == 5000 or die 'in parts';`,
    };
    t.is(await talkUdp({ from, to: whole }, one, putTogether), 0);
    t.deepEqual(probe.readTotals().get(whole.id), received(1, 5000));
    const more = await talkUdp({ from: whole, to }, one, {
      give: `defined(send($out, 'x' x 100, ${MSG_MORE})) or die $!; gives($out, 200);`,
      receive: `length(gets($in, 65536)) == 300 or die 'in parts';`,
    });
    t.is(more, 0);
    t.like(probe.readTotals().get(whole.id), { sentPackets: 2, sentBytes: 300 });
    t.deepEqual(probe.readTotals().get(to.id), received(11, 5300));
  },
);

kernelTest('what is no datagram that was sent or received is not counted', async t => {
  const probe = start(t);
  const [namespace, from, to] = [makeNet(t), makeBox(t), makeBox(t)];
  const code = await talkUdp({ from, to }, { namespace, address: '127.0.0.1' }, beside);
  t.is(code, 0);
  const totals = probe.readTotals();
  t.deepEqual(totals.get(from.id), sent(7, 5030));
  // What a short buffer cuts off nobody received.
  t.deepEqual(totals.get(to.id), received(5, 4400));
});

kernelTest('all CPUs of an instance count at once, and nothing is lost between them', async t => {
  const probe = start(t);
  const [namespace, from, to] = [makeNet(t), makeBox(t), makeBox(t)];
  const many = `my $s = udp(); for (1 .. 30_000) { defined(send($s, 'x' x 10, 0, at(9))) or die $!; }`;
  const code = await talkUdp(
    { from, to },
    { namespace, address: '127.0.0.1' },
    {
      give: `my $twin = fork; ${many} exit 0 if !$twin; waitpid $twin, 0; $? == 0 or die 'its twin';`,
      receive: 'return;',
    },
  );
  t.is(code, 0);
  t.deepEqual(probe.readTotals().get(from.id), sent(60_000, 600_000));
  t.deepEqual(probe.lost(), nothingLost);
});

kernelTest('what there is no room for is counted as lost', async t => {
  const probe = start(t, { maxInstances: 1 });
  const [namespace, from, to] = [makeNet(t), makeBox(t), makeBox(t)];
  const scripts = { give: 'gives($out, 10) for 1 .. 20;', receive: 'gets($in, 100) for 1 .. 20;' };
  t.is(await talkUdp({ from, to }, { namespace, address: '127.0.0.1' }, scripts), 0);
  const totals = probe.readTotals();
  t.is(totals.size, 1);
  // The one place may be that of another process of the machine.
  const known = (totals.get(from.id)?.sentPackets ?? 0) + (totals.get(to.id)?.receivedPackets ?? 0);
  t.true(probe.lost().map_full >= 40 - known && known <= 20);
});

kernelTest('by cgroup v2 it is the same', async t => {
  const { v2 } = findHierarchies(hostRoots);
  if (v2 === null) {
    t.pass('there is no cgroup v2 here');
    return;
  }
  const probe = start(t, { cgroupV1: false });
  const [namespace, from, to] = [makeNet(t), makeBox(t, v2), makeBox(t, v2)];
  const scripts = { give: 'gives($out, 10) for 1 .. 20;', receive: 'gets($in, 100) for 1 .. 20;' };
  t.is(await talkUdp({ from, to }, { namespace, address: '::1' }, scripts), 0);
  t.deepEqual(probe.readTotals().get(from.id), sent(20, 200));
  t.deepEqual(probe.readTotals().get(to.id), received(20, 200));
});

kernelTest('what is forgotten is answered a last time, and its key is free', async t => {
  const probe = start(t);
  const [namespace, from, to] = [makeNet(t), makeBox(t), makeBox(t)];
  const scripts = { give: 'gives($out, 1234);', receive: 'gets($in, 2000);' };
  t.is(await talkUdp({ from, to }, { namespace, address: '127.0.0.1' }, scripts), 0);
  const last = probe.forget([from.id, 1 << 30]);
  t.deepEqual([...last], [[from.id, sent(1, 1234)]]);
  t.deepEqual(
    [...probe.readTotals().keys()].filter(id => id === from.id || id === to.id),
    [to.id],
  );
});

kernelTest(
  'a running agent tells them in its largest profile, beside TCP, and lets go of the hooks',
  async t => {
    t.timeout(60_000);
    const told = await startTold();
    t.teardown(told.stop);
    const status = () => told.agent.status().sources['udp'];
    t.is(status(), 'not selected');
    const { net } = told.agent.status().sources;
    told.agent.change({ ...told.agent.settings(), profile: 'full' });
    await eventually('the hooks', 10, () => status() === 'running' || null);
    const [namespace, from, to] = [makeNet(t), makeBox(t), makeBox(t)];
    const scripts = {
      give: 'gives($out, 100) for 1 .. 30; sleep 3;',
      receive: 'gets($in, 200) for 1 .. 30; sleep 3;',
    };
    const talking = talkUdp({ from, to }, { namespace, address: '127.0.0.1' }, scripts);
    const last = (box: CgroupBox, metric: string, direction: string) =>
      told
        .pointsOf(metric, box.folder.slice('/sys/fs/cgroup/cpu'.length))
        .filter(({ attributes }) => attributes['network.transport'] === 'udp')
        .findLast(({ attributes }) => attributes['network.io.direction'] === direction)?.value;
    await eventually('what was received', 10, () =>
      last(to, 'sculptor.network.packets', 'receive') === 30 ? true : null,
    );
    await eventually('what was sent', 10, () =>
      last(from, 'sculptor.network.packets', 'transmit') === 30 ? true : null,
    );
    t.is(last(from, 'sculptor.network.io', 'transmit'), 3000);
    t.is(last(from, 'sculptor.network.io', 'receive'), 0);
    t.is(last(to, 'sculptor.network.io', 'receive'), 3000);
    t.is(await talking, 0);
    told.agent.change({ ...told.agent.settings(), profile: 'default' });
    await eventually('the end of the hooks', 10, () => status() === 'not selected' || null);
    t.is(told.agent.status().sources['net'], net);
    t.is(told.agent.status().lost['udp_map_full'], 0);
  },
);
