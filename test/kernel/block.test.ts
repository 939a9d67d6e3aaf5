import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import ava, { type ExecutionContext } from 'ava';
import {
  type BlockProbe,
  blockWords,
  type DiskDirection,
  startBlockProbe,
} from '../../src/agent/probes/block.ts';
import { latencySlots } from '../../src/agent/probes/latency.ts';
import { loadNative } from '../../src/linux/native.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { deviceOf, type LoopDisk, makeLoopDisk } from '../support/loop-disk.ts';
import { beside, needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { near } from '../support/sched-scene.ts';
import { coresOf, shareTold } from '../support/told-agent.ts';

/** Of the root of every hierarchy. */
const rootId = 1;

const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;

const diskTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'loopDevice');
const agentTest = beside(diskTest);
const throttledTest = beside(
  needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'loopDevice', 'cgroupV1Blkio'),
);

const shared = shareTold();
ava.after.always(shared.stop);

function start(t: ExecutionContext, scheduler: 'none' | 'mq-deadline') {
  const disk = makeLoopDisk(32, scheduler);
  t.teardown(disk.end);
  const box = makeCgroupBox('/sys/fs/cgroup/cpu');
  t.teardown(box.end);
  const probe = startBlockProbe({ native: loadNative(), cgroupV1: true, maxInstances: 1024 });
  t.teardown(probe.stop);
  return { probe, box, disk };
}

/** Runs a command in the box to its end. */
async function run(box: CgroupBox, ...command: string[]): Promise<void> {
  const [code] = await once(box.spawn(...command), 'exit');
  if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}`);
}

/** One operation after another, past the page cache. */
const dd = (...args: string[]) => ['dd', 'status=none', ...args];

/** What a cgroup did on the disk. */
function told(probe: BlockProbe, cgroupId: number, disk: LoopDisk, direction: DiskDirection) {
  const device = deviceOf(disk);
  const words = probe
    .read()
    .find(
      ({ key }) =>
        key.cgroupId === cgroupId && key.device === device && key.direction === direction,
    )?.words;
  const word = (at: number): number => words?.[at] ?? 0;
  const slots = (from: number) => words?.subarray(from, from + latencySlots) ?? new Float64Array();
  const count = (from: number): number => slots(from).reduce((sum, n) => sum + n, 0);
  return {
    operations: word(blockWords.operations),
    bytes: word(blockWords.bytes),
    queueSumNs: word(blockWords.queueSumNs),
    deviceSumNs: word(blockWords.deviceSumNs),
    queueCount: count(blockWords.queueSlots),
    deviceCount: count(blockWords.deviceSlots),
    atOnce: slots(blockWords.queueSlots)[0] ?? 0,
  };
}

for (const scheduler of ['mq-deadline', 'none'] as const)
  diskTest(
    `with ${scheduler}, each operation of a known number is counted, to the byte`,
    async t => {
      const { probe, box, disk } = start(t, scheduler);
      const began = performance.now();
      await run(
        box,
        ...dd('if=/dev/zero', `of=${disk.path}`, 'bs=16k', 'count=300', 'oflag=direct'),
      );
      await run(
        box,
        ...dd(`if=${disk.path}`, 'of=/dev/null', 'bs=8k', 'count=200', 'iflag=direct'),
      );
      const tookNs = (performance.now() - began) * 1e6;
      const write = told(probe, box.id, disk, 'write');
      const read = told(probe, box.id, disk, 'read');
      t.log(JSON.stringify({ write, read, tookNs }));
      for (const [what, { wanted, bytes }] of [
        [write, { wanted: 300, bytes: 16_384 }],
        [read, { wanted: 200, bytes: 8192 }],
      ] as const) {
        // A kernel was met that runs no program while a thread of process 1 is current: an end in an interrupt of it is not
        // seen, by us nor by biolatency, now and then one of five hundred.
        const { operations } = what;
        t.true(operations <= wanted && operations >= wanted - 3, `${operations} of ${wanted}`);
        t.is(what.bytes, operations * bytes);
        t.is(what.queueCount, operations);
        t.is(what.deviceCount, operations);
        t.true(what.deviceSumNs > operations * 1000);
      }
      // One after another: what they waited and took is a part of the time that went by.
      const sumNs = [write, read].reduce((ns, one) => ns + one.queueSumNs + one.deviceSumNs, 0);
      t.true(sumNs < tookNs, `${sumNs} of ${tookNs} ns`);
      const atOnce = [write, read].reduce((n, one) => n + one.atOnce, 0);
      const all = write.operations + read.operations;
      t.is(atOnce, scheduler === 'none' ? all : 0, 'queue times of 0');
      const { requests_full, map_full, memory, recursion } = probe.stats().lost;
      t.deepEqual([requests_full, map_full, memory, recursion], [0, 0, 0, 0]);
    },
  );

diskTest("a discard is its own direction; a flush is the root's, whoever asked for it", async t => {
  const { probe, box, disk } = start(t, 'mq-deadline');
  const flushesBefore = told(probe, rootId, disk, 'flush').operations;
  await run(box, 'blkdiscard', '--length', '1048576', disk.path);
  t.is(told(probe, box.id, disk, 'discard').bytes, 1_048_576);
  // Buffered, and written by the process itself when it asks for the flush.
  await run(box, ...dd('if=/dev/zero', `of=${disk.path}`, 'bs=64k', 'count=16', 'conv=fdatasync'));
  t.is(told(probe, box.id, disk, 'write').bytes, 1_048_576);
  t.is(told(probe, box.id, disk, 'flush').operations, 0);
  t.is(told(probe, rootId, disk, 'flush').operations, flushesBefore + 1);
});

diskTest('requests that the scheduler merges are one operation of all their bytes', async t => {
  const { probe, box, disk } = start(t, 'mq-deadline');
  const before = probe.stats();
  await run(box, workload, 'merge', '--file', disk.path, '--count', '100');
  const write = told(probe, box.id, disk, 'write');
  t.is(write.operations, 100);
  t.is(write.bytes, 100 * 3 * 4096);
  const { irregular, lost } = probe.stats();
  const merged = irregular.merged - before.irregular.merged;
  t.log(`${merged} merged`);
  t.true(merged >= 100 && merged < 150, `${merged} merged`);
  // Those of other disks are none of this test's.
  t.true(
    lost.unfinished - before.lost.unfinished < merged,
    'one that was merged is not unfinished',
  );
});

diskTest('on cgroup v1 buffered writes are those of who writes them back', async t => {
  const { probe, box, disk } = start(t, 'mq-deadline');
  // Held open: the last to close it writes back what is left.
  const held = openSync(disk.path, 'r');
  try {
    await run(box, ...dd('if=/dev/zero', `of=${disk.path}`, 'bs=64k', 'count=16'));
    t.is(told(probe, box.id, disk, 'write').operations, 0);
    execFileSync('sync', [disk.path]);
  } finally {
    closeSync(held);
  }
  t.is(told(probe, box.id, disk, 'write').operations, 0);
  const written = probe
    .read()
    .filter(({ key }) => key.device === deviceOf(disk) && key.direction === 'write')
    .reduce((bytes, { words }) => bytes + (words[blockWords.bytes] ?? 0), 0);
  t.is(written, 1_048_576);
});

diskTest('what is forgotten is answered a last time, and its key is free', async t => {
  const { probe, box, disk } = start(t, 'none');
  await run(box, ...dd(`if=${disk.path}`, 'of=/dev/null', 'bs=4k', 'count=10', 'iflag=direct'));
  const key = { cgroupId: box.id, device: deviceOf(disk), direction: 'read' } as const;
  const [last, ...more] = probe.forget([key, { ...key, direction: 'discard' }]);
  t.deepEqual(last?.key, key);
  t.is(last?.words[blockWords.operations], 10);
  t.deepEqual(more, []);
  t.is(told(probe, box.id, disk, 'read').operations, 0);
});

agentTest('a running agent exports them by the name of the device', async t => {
  t.timeout(60_000);
  const agent = await shared.told();
  const disk = makeLoopDisk(32, 'mq-deadline');
  t.teardown(disk.end);
  const box = makeCgroupBox('/sys/fs/cgroup/cpu');
  t.teardown(box.end);
  // It stays for a while: a cgroup that was gone at once might never get a name.
  const load = [
    `dd if=/dev/zero of=${disk.path} bs=4k count=250 oflag=direct status=none`,
    `dd if=${disk.path} of=/dev/null bs=8k count=100 iflag=direct status=none`,
    // By force: it looks for no file system, which is to read.
    `blkdiscard --force --length 1048576 ${disk.path} 2>/dev/null`,
    'exec sleep 20',
  ];
  box.spawn('sh', '-c', load.join(' && '));
  const path = `/${basename(box.folder)}`;
  const last = (metric: string, ...wanted: string[]) =>
    agent
      .pointsOf(metric, path)
      .filter(({ attributes }) => wanted.every(value => Object.values(attributes).includes(value)))
      .at(-1)?.value;
  await eventually('all of it', 20, () =>
    last('sculptor.disk.operations', disk.name, 'discard') === 1 ? true : null,
  );
  let seconds = 0;
  for (const [direction, { wanted, bytes }] of Object.entries({
    write: { wanted: 250, bytes: 4096 },
    read: { wanted: 100, bytes: 8192 },
    discard: { wanted: 1, bytes: null },
  })) {
    const count = Number(last('sculptor.disk.operations', disk.name, direction));
    // As above: now and then the end of one is not shown.
    t.true(count <= wanted && count >= wanted - 2, `${direction}: ${count} of ${wanted}`);
    t.is(
      last('container.disk.io', disk.name, direction),
      bytes === null ? undefined : count * bytes,
    );
    for (const phase of ['queue', 'device']) {
      const latency = last('sculptor.disk.latency', disk.name, direction, phase);
      if (typeof latency !== 'object') throw new Error(`no latency of ${direction}, ${phase}`);
      t.is(latency.count, count, `${direction}, ${phase}`);
      seconds += Number(latency.sum);
    }
  }
  // One operation at a time: who asked for it sleeps until it has ended, by the scheduler's probe.
  const waited = Number(last('sculptor.offcpu.time', 'io'));
  t.log(`${waited} s waited for I/O that took ${seconds} s`);
  t.true(waited > 0.5 * seconds && waited < 2 * seconds + 0.05);
  t.is(agent.agent.status().sources['block'], 'running');
});

agentTest(
  'the four devices that an instance uses most have its series, and all others one',
  async t => {
    t.timeout(60_000);
    const agent = await shared.told();
    const disks = Array.from({ length: 6 }, () => makeLoopDisk(4, 'none'));
    for (const { end } of disks) t.teardown(end);
    const box = makeCgroupBox('/sys/fs/cgroup/cpu');
    t.teardown(box.end);
    const reads = (count: number, { path }: LoopDisk) =>
      `dd if=${path} of=/dev/null bs=4k count=${count} iflag=direct status=none`;
    const [most, least] = [disks.slice(0, 4), disks.slice(4)];
    const load = [...most.map(disk => reads(200, disk)), ...least.map(disk => reads(4, disk))];
    box.spawn('sh', '-c', [...load, 'exec sleep 20'].join(' && '));
    const toldOf = (metric: string) =>
      new Map(
        agent
          .pointsOf(metric, `/${basename(box.folder)}`)
          .filter(({ attributes }) => attributes['sculptor.disk.phase'] !== 'queue')
          .map(({ attributes, value }) => [attributes['system.device'], value]),
      );
    const operations = await eventually('all of it', 20, () => {
      const counts = toldOf('sculptor.disk.operations');
      // As above: now and then the end of one is not shown.
      return Number(counts.get('other')) >= 7 && counts.size === 5 ? counts : null;
    });
    t.deepEqual([...operations.keys()].sort(), [...most.map(({ name }) => name), 'other'].sort());
    for (const [device, told] of operations) {
      const [count, wanted] = [Number(told), device === 'other' ? 8 : 200];
      t.true(count <= wanted && count >= wanted - 3, `${device}: ${count} of ${wanted}`);
      t.is(toldOf('container.disk.io').get(device), count * 4096, `${device}: bytes`);
      const latency = toldOf('sculptor.disk.latency').get(device);
      t.is(typeof latency === 'object' && latency.count, count, `${device}: latency`);
    }
  },
);

throttledTest(
  'what reads at a limit waits for its disk all the while, as an instance and as a hot task',
  async t => {
    t.timeout(60_000);
    const agent = await shared.told();
    const disk = makeLoopDisk(32, 'none');
    t.teardown(disk.end);
    const limited = makeCgroupBox('/sys/fs/cgroup/blkio');
    t.teardown(limited.end);
    const box = makeCgroupBox('/sys/fs/cgroup/cpu');
    t.teardown(box.end);
    const limit = 100;
    const numbers = `${deviceOf(disk) >> 20}:${deviceOf(disk) & 0xfffff}`;
    limited.write('blkio.throttle.read_iops_device', `${numbers} ${limit}`);
    const reader = box.spawn(...dd(`if=${disk.path}`, 'of=/dev/null', 'bs=4k', 'iflag=direct'));
    limited.write('cgroup.procs', String(reader.pid));
    const path = `/${basename(box.folder)}`;
    const pointsOf = (metric: string, reason?: string) =>
      agent
        .pointsOf(metric, path)
        .filter(({ attributes }) => !reason || attributes['sculptor.reason'] === reason);
    await eventually('some seconds of its hot task', 20, () =>
      pointsOf('sculptor.task.offcpu.time', 'io').length >= 5 ? true : null,
    );
    for (const [offCpu, run, wait] of [
      ['sculptor.offcpu.time', 'container.cpu.time', 'sculptor.runqueue.wait'],
      ['sculptor.task.offcpu.time', 'sculptor.task.cpu.time', 'sculptor.task.runqueue.wait'],
    ] as const) {
      const reasons = ['io', 'sleep', 'lock', 'uninterruptible', 'throttled'];
      const [io = 0, ...others] = reasons.map(reason => coresOf(pointsOf(offCpu, reason), 1));
      const [ran, waited] = [coresOf(pointsOf(run), 1), coresOf(pointsOf(wait), 1)];
      t.log(`${offCpu}: ${io} beside ${ran} run and ${waited} waited`);
      // Between two reads it runs, or waits for a CPU, for less than a tenth of the 10 ms that each takes.
      t.true(io > 0.9, `${offCpu}: ${io}`);
      near(t, io + ran + waited, 1, 0.03, `${offCpu}: of one task`);
      t.deepEqual(others, [0, 0, 0, 0], offCpu);
    }
    const perSecond = coresOf(pointsOf('sculptor.disk.operations'), 1);
    t.true(perSecond > 0.8 * limit && perSecond < 1.05 * limit, `${perSecond} reads a second`);
  },
);
