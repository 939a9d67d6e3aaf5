import { setTimeout as pause } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { runBpftrace } from '../../src/agent/bpftrace/run.ts';
import { startUdpScript } from '../../src/agent/bpftrace/udp-script.ts';
import { startUdpProbe, type UdpProbe } from '../../src/agent/probes/udp.ts';
import { realClock } from '../../src/cli/clock.ts';
import { findHierarchies } from '../../src/linux/cgroups.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { byMany, ofAllSizes, beside as twoAtOnce } from '../support/datagram-loads.ts';
import { talkUdp } from '../support/datagrams.ts';
import { beside, needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { makeNamespace } from '../support/talkers.ts';

const needed = ['root', 'btf', 'cgroupV1Cpu', 'namespaces', 'socketLengths'] as const;
const kernelTest = beside(needs(...needed, 'addon', 'bpftrace', 'tracefs'));
const unifiedTest = beside(needs(...needed, 'addon', 'bpftrace', 'tracefs', 'cgroupV2'));

type Both = { readonly libbpf: UdpProbe; readonly bpftrace: UdpProbe };

async function startBoth(t: ExecutionContext, cgroupV1 = true): Promise<Both> {
  const context = { run: runBpftrace, roots: hostRoots, clock: realClock, say: () => undefined };
  const bpftrace = startUdpScript({ ...context, cgroupV1 });
  t.teardown(bpftrace.stop);
  t.is(await bpftrace.attached, null);
  const libbpf = startUdpProbe({ native: loadNative(), cgroupV1, maxInstances: 1024 });
  t.teardown(libbpf.stop);
  return { libbpf, bpftrace };
}

/** Two cgroups of a namespace of their own, which talk. */
function stage(t: ExecutionContext, hierarchy = '/sys/fs/cgroup/cpu') {
  const namespace = makeNamespace();
  t.teardown(namespace.end);
  const [from, to] = [makeCgroupBox(hierarchy), makeCgroupBox(hierarchy)];
  t.teardown(from.end);
  t.teardown(to.end);
  const talk = (
    address: Parameters<typeof talkUdp>[1]['address'],
    scripts: Parameters<typeof talkUdp>[2],
  ) => talkUdp({ from, to }, { namespace, address }, scripts);
  return { namespace, from, to, talk };
}

/** Both tell the same to the byte, once bpftrace has printed it. */
async function agree(t: ExecutionContext, { libbpf, bpftrace }: Both, boxes: CgroupBox[]) {
  await pause(2200);
  const [wanted, got] = [libbpf, bpftrace].map(probe => {
    const totals = probe.readTotals();
    return boxes.map(({ id }) => totals.get(id));
  });
  t.deepEqual(got, wanted);
  t.deepEqual(Object.values(bpftrace.lost()).filter(Boolean), []);
  return got ?? [];
}

kernelTest(
  'libbpf and bpftrace tell the same datagrams and bytes, of every kind of call, and nothing else',
  async t => {
    t.timeout(60_000);
    const both = await startBoth(t);
    const { namespace, from, to, talk } = stage(t);
    namespace.ip('link', 'set', 'lo', 'mtu', '1500');
    t.is(await talk('127.0.0.1', ofAllSizes), 0);
    t.is(await talk('::1', ofAllSizes), 0);
    t.is(await talk('127.0.0.1', byMany), 0);
    t.is(await talk('127.0.0.1', twoAtOnce), 0);
    const flood = `my $s = udp(); for (1 .. 30_000) { defined(send($s, 'x' x 10, 0, at(9))) or die $!; }`;
    const twins = `my $twin = fork; ${flood} exit 0 if !$twin; waitpid $twin, 0; $? == 0 or die 'its twin';`;
    t.is(await talk('127.0.0.1', { give: twins, receive: 'return;' }), 0);
    const [sender, receiver] = await agree(t, both, [from, to]);
    t.deepEqual(sender, {
      ...{ sentPackets: 2 * 34 + 20 + 7 + 60_000, receivedPackets: 0, receivedBytes: 0 },
      sentBytes: 2 * 72_008 + 6000 + 5030 + 600_000,
    });
    t.deepEqual(receiver, {
      ...{ receivedPackets: 2 * 34 + 20 + 5, sentPackets: 0, sentBytes: 0 },
      receivedBytes: 2 * 72_008 + 6000 + 4400,
    });
  },
);

unifiedTest('by cgroup v2 it is the same', async t => {
  t.timeout(60_000);
  const v2 = findHierarchies(hostRoots).v2 ?? t.fail();
  const both = await startBoth(t, false);
  const { from, to, talk } = stage(t, v2);
  t.is(await talk('127.0.0.1', byMany), 0);
  const [sender, receiver] = await agree(t, both, [from, to]);
  t.is(sender?.sentBytes, 6000);
  t.is(receiver?.receivedBytes, 6000);
});

kernelTest('what is forgotten is answered a last time, and begins anew', async t => {
  t.timeout(60_000);
  const { bpftrace } = await startBoth(t);
  const { from, to, talk } = stage(t);
  t.is(await talk('127.0.0.1', byMany), 0);
  await eventually('what was sent', 5, () => bpftrace.readTotals().has(from.id) || null);
  const last = bpftrace.forget([from.id, 1 << 30]);
  t.deepEqual([...last.keys()], [from.id]);
  t.is(last.get(from.id)?.sentPackets, 20);
  t.false(bpftrace.readTotals().has(from.id));
  t.is(await talk('127.0.0.1', { give: 'gives($out, 7);', receive: 'gets($in, 9);' }), 0);
  const again = await eventually('what was sent since', 5, () =>
    bpftrace.readTotals().get(from.id),
  );
  t.like(again, { sentPackets: 1, sentBytes: 7 });
  t.true(bpftrace.readTotals().has(to.id));
});
