import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename } from 'node:path';
import ava, { type ExecutionContext } from 'ava';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { talkUdp } from '../support/datagrams.ts';
import { makeLoopDisk } from '../support/loop-disk.ts';
import { beside, needs, type Requirement } from '../support/needs.ts';
import { childrenOf, eventually } from '../support/scene.ts';
import { near } from '../support/sched-scene.ts';
import { ended, makeNamespace, send, serve } from '../support/talkers.ts';
import { shareTold, type Told } from '../support/told-agent.ts';
import { makeWalkerBox } from '../support/walker.ts';

const needed = ['root', 'btf', 'addon', 'cgroupV1Cpu', 'bpftrace', 'tracefs'] as const;
const testWith = (...more: Requirement[]) => beside(needs(...needed, ...more));
const socketTest = testWith('namespaces', 'socketLengths');

const cpuRoot = '/sys/fs/cgroup/cpu';

// One agent for all: it starts five bpftraces, which compile for seconds.
const shared = shareTold({ driver: 'bpftrace', profile: 'full' });
ava.after.always('no bpftrace of this process is left', async t => {
  await shared.stop();
  t.deepEqual(childrenOf(process.pid), []);
});

/** The agent, once a source of it counts. */
async function toldBy(source: string): Promise<Told> {
  const told = await shared.told();
  await eventually(
    `${source} counts`,
    30,
    () => told.agent.status().sources[source] === 'running' || null,
  );
  return told;
}

/** A network namespace, and two cgroups that talk in it. */
function stage(t: ExecutionContext) {
  const namespace = makeNamespace();
  t.teardown(namespace.end);
  const boxes = [makeCgroupBox(cpuRoot), makeCgroupBox(cpuRoot)] as const;
  for (const box of boxes) t.teardown(box.end);
  return { namespace, boxes };
}

testWith('loopDevice')('what a real cgroup does on a disk', async t => {
  t.timeout(60_000);
  const told = await toldBy('block');
  const disk = makeLoopDisk(32, 'mq-deadline');
  t.teardown(disk.end);
  const box = makeCgroupBox(cpuRoot);
  t.teardown(box.end);
  // It stays for a while: a cgroup that was gone at once might never get a name.
  const load = `dd if=/dev/zero of=${disk.path} bs=4k count=250 oflag=direct status=none && exec sleep 20`;
  box.spawn('sh', '-c', load);
  const last = (metric: string, ...wanted: string[]) =>
    told
      .pointsOf(metric, `/${basename(box.folder)}`)
      .filter(({ attributes }) =>
        [disk.name, 'write', ...wanted].every(value => Object.values(attributes).includes(value)),
      )
      .at(-1)?.value;
  const operations = await eventually('all of it', 20, () => {
    const count = Number(last('sculptor.disk.operations'));
    return count >= 248 ? count : null;
  });
  t.true(operations <= 250, `${operations} of 250`);
  t.is(last('container.disk.io'), operations * 4096);
  for (const phase of ['queue', 'device']) {
    const latency = last('sculptor.disk.latency', phase);
    t.is(typeof latency === 'object' && latency.count, operations, phase);
  }
});
socketTest('what a real cgroup sends and receives by TCP', async t => {
  t.timeout(90_000);
  const told = await toldBy('net');
  const { namespace, boxes } = stage(t);
  const [client, server] = boxes;
  const at = { namespace, host: '127.0.0.1', port: 4000 };
  const talking = [serve(server, at, 1000), send(client, at, 500_000, 500_000)];
  const last = ({ folder }: CgroupBox, metric: string, direction?: string) =>
    told
      .pointsOf(metric, folder.slice(cpuRoot.length))
      .filter(({ attributes }) => attributes['network.transport'] === 'tcp')
      .findLast(({ attributes }) => attributes['network.io.direction'] === direction)?.value;
  await eventually('what was received meanwhile', 15, () =>
    last(server, 'sculptor.network.io', 'receive') === 500_000 ? true : null,
  );
  talking[1]?.kill('SIGUSR2');
  await Promise.all(talking.map(ended));
  await eventually('the payload, of both', 10, () =>
    [client, server].every(box => last(box, 'sculptor.network.io', 'transmit')) ? true : null,
  );
  for (const [box, sent, received] of [
    [client, 1_000_000, 1000],
    [server, 1000, 1_000_000],
  ] as const) {
    await eventually(
      'all of it',
      10,
      () => last(box, 'sculptor.network.io', 'transmit') === sent || null,
    );
    t.is(last(box, 'sculptor.network.io', 'receive'), received);
    const rtt = last(box, 'sculptor.network.rtt');
    t.true(typeof rtt === 'object' && rtt.count >= 1 && Number(rtt.sum) / rtt.count < 1);
  }
  t.is(told.agent.status().lost['net_map_full'], 0);
});
socketTest('and by UDP', async t => {
  t.timeout(90_000);
  const told = await toldBy('udp');
  const { namespace, boxes } = stage(t);
  const [from, to] = boxes;
  const talking = talkUdp(
    { from, to },
    { namespace, address: '127.0.0.1' },
    {
      give: 'gives($out, 100) for 1 .. 30; sleep 5;',
      receive: 'gets($in, 200) for 1 .. 30; sleep 5;',
    },
  );
  const last = (box: CgroupBox, metric: string, direction: string) =>
    told
      .pointsOf(metric, box.folder.slice(cpuRoot.length))
      .filter(({ attributes }) => attributes['network.transport'] === 'udp')
      .findLast(({ attributes }) => attributes['network.io.direction'] === direction)?.value;
  await eventually('what was received', 10, () =>
    last(to, 'sculptor.network.packets', 'receive') === 30 ? true : null,
  );
  await eventually('what was sent', 10, () =>
    last(from, 'sculptor.network.packets', 'transmit') === 30 ? true : null,
  );
  t.is(last(from, 'sculptor.network.io', 'transmit'), 3000);
  t.is(last(to, 'sculptor.network.io', 'receive'), 3000);
  t.is(await talking, 0);
  t.is(told.agent.status().lost['udp_map_full'], 0);
});
testWith('cgroupV1Memory')('the latency of the faults of a real cgroup, by kind', async t => {
  t.timeout(60_000);
  const told = await toldBy('faults');
  const box = makeWalkerBox();
  t.teardown(box.end);
  const folder = mkdtempSync(`${tmpdir()}/sculptor-faults-`);
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(`${folder}/cold`, Buffer.alloc(16 << 20, 1), { flush: true });
  const walked = await box.walk(['--mb', '64']);
  const cold = await box.walk(['--mb', '16', '--file', `${folder}/cold`]);
  const wanted = { minor: walked.minorFaults + cold.minorFaults, major: cold.majorFaults };
  for (const [kind, faults] of Object.entries(wanted)) {
    const histogram = await eventually(`the histogram of ${kind} faults`, 15, () => {
      const value = told
        .pointsOf('sculptor.memory.fault.latency', box.path)
        .filter(({ attributes }) => attributes['system.paging.fault.type'] === kind)
        .at(-1)?.value;
      return typeof value === 'object' && value.count >= 0.98 * faults ? value : null;
    });
    near(t, histogram.count / faults, 1, 0.02, kind);
  }
  const { lost } = told.agent.status();
  t.is(lost['faults_map_full'], 0);
  t.is(lost['faults_lost_events'], 0);
});
