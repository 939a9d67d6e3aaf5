import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { LivingInstance } from '../../src/agent/instances/instances.ts';
import { memorySource } from '../../src/agent/memory/memory-source.ts';
import { type FaultsProbe, startFaultsProbe } from '../../src/agent/probes/faults.ts';
import type { SourceContext } from '../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../src/linux/cgroups.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { readCpuIds } from '../../src/linux/topology.ts';
import { makeBurst } from '../support/burst.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { steppedClock } from '../support/stepped-clock.ts';
import { startTold } from '../support/told-agent.ts';
import { makeWalkerBox, type WalkerBox } from '../support/walker.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'cgroupV1Memory');

const mb = 1 << 20;

function start(t: ExecutionContext): { probe: FaultsProbe; box: WalkerBox } {
  const box = makeWalkerBox();
  t.teardown(box.end);
  const probe = startFaultsProbe({
    native: loadNative(),
    cgroupV1: true,
    maxInstances: 1024,
    onlineCpus: readCpuIds(hostRoots).online,
  });
  t.teardown(probe.stop);
  return { probe, box };
}

/** A file of so many MB that is on a disk, and gone with the test. */
function makeFile(t: ExecutionContext, mb: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-faults-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(`${folder}/cold`, Buffer.alloc(mb << 20, 1), { flush: true });
  return `${folder}/cold`;
}

function within(t: ExecutionContext, got: number, wanted: number, ratio: number, what: string) {
  t.true(Math.abs(got - wanted) <= wanted * ratio, `${what}: got ${got}, wanted ${wanted}`);
}

const memoryStat = (box: WalkerBox, key: string): number =>
  Number(
    new RegExp(`^${key} (\\d+)$`, 'm').exec(readFileSync(`${box.memory}/memory.stat`, 'utf8'))?.[1],
  );

kernelTest(
  'a walk of 128 MB is as many minor faults as getrusage and the memory controller say',
  async t => {
    const { probe, box } = start(t);
    const walked = await box.walk(['--mb', '128']);
    const faults = probe.readTotals().get(box.id);
    const count = faults?.minor.latencyCount ?? 0;
    within(t, count, walked.minorFaults, 0.02, 'against getrusage');
    within(t, count, memoryStat(box, 'pgfault'), 0.02, 'against memory.stat');
    const slots = faults?.minor.slots.reduce((sum, n) => sum + n, 0);
    t.is(slots, count);
    // A part of the walk: entering and leaving the kernel is dear in a virtual machine, and is not in it.
    const ratio = (faults?.minor.latencySumNs ?? 0) / walked.walkNs;
    t.true(ratio > 0.05 && ratio < 1, `latencies are ${ratio} of the walk`);
    t.deepEqual(probe.lost(), { task_storage: 0, map_full: 0, memory: 0, recursion: 0 });
  },
);

kernelTest('a file that is not in memory is read by major faults, which take longer', async t => {
  const { probe, box } = start(t);
  const walked = await box.walk(['--mb', '16', '--file', makeFile(t, 16)]);
  const faults = probe.readTotals().get(box.id);
  within(t, walked.majorFaults, 4096, 0.02, 'the walker itself');
  within(t, faults?.major.latencyCount ?? 0, walked.majorFaults, 0.02, 'major');
  const mean = (kind: 'minor' | 'major') =>
    (faults?.[kind].latencySumNs ?? 0) / (faults?.[kind].latencyCount ?? 1);
  t.true(mean('major') > 2 * mean('minor'), `${mean('major')} ns, minor ${mean('minor')} ns`);
});

kernelTest('where 300 cgroups fault for the first time at once, each fault is counted', async t => {
  const burst = await makeBurst('/sys/fs/cgroup/cpu', 300);
  t.teardown(burst.end);
  const { probe } = start(t);
  await burst.letGo();
  const totals = probe.readTotals();
  const counts = burst.boxes.map(({ id }) => totals.get(id)?.minor.latencyCount ?? 0);
  // Each does the same: it becomes another program, and ends.
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  t.true(least > 20 && most < 1.5 * least, `${least} to ${most} faults`);
  t.deepEqual(probe.lost(), { task_storage: 0, map_full: 0, memory: 0, recursion: 0 });
  // Whichever map they lie in, they are answered a last time.
  const last = probe.forget(burst.boxes.map(({ id }) => id));
  t.deepEqual(
    burst.boxes.map(({ id }) => last.get(id)?.minor.latencyCount),
    counts,
  );
  const left = probe.readTotals();
  t.false(burst.boxes.some(({ id }) => left.has(id)));
});

kernelTest('what is forgotten is answered a last time, and its key is free', async t => {
  const { probe, box } = start(t);
  const walked = await box.walk(['--mb', '8']);
  const last = probe.forget([box.id, 1 << 30]);
  t.deepEqual([...last.keys()], [box.id]);
  within(t, last.get(box.id)?.minor.latencyCount ?? 0, walked.minorFaults, 0.1, 'last');
  t.false(probe.readTotals().has(box.id));
});

needs(
  'root',
  'btf',
  'addon',
  'cgroupV1Cpu',
  'cgroupV1Memory',
  'twoCpus',
)('a CPU is counted while it is among those that are online', async t => {
  const { probe, box } = start(t);
  probe.follow([0]);
  await box.walk(['--mb', '16'], 1);
  const without = probe.readTotals().get(box.id)?.minor.latencyCount ?? 0;
  t.true(without < 1000, `${without} before it was pinned to CPU 1`);
  probe.follow([0, 1]);
  await box.walk(['--mb', '16'], 1);
  const more = (probe.readTotals().get(box.id)?.minor.latencyCount ?? 0) - without;
  t.true(more >= 4096, `${more} on CPU 1`);
});

/** What the source of memory says of an instance that ran, at the end of an interval by its clock. */
function memoryOf(t: ExecutionContext) {
  const clock = steppedClock();
  const source = memorySource.start({
    config: { detailIntervalSeconds: 10 },
    roots: hostRoots,
    layout: readCgroupLayout(hostRoots),
    clock,
  } as unknown as SourceContext);
  t.teardown(source.stop);
  // Made after the source was started: told from its beginning.
  const box = makeWalkerBox();
  t.teardown(box.end);
  const living = {
    instance: { id: box.path, kind: 'cgroup', name: box.path },
    path: box.path,
    start: 1,
    members: new Map([[box.id, box.path]]),
    totals: { runNs: 0 },
  } as unknown as LivingInstance;
  const look = () => {
    living.totals.runNs += 1;
    source.read([living]);
    clock.step(10);
    return (metric: string, attribute?: string | number) =>
      [
        ...source.samples(living),
        ...source.host().filter(({ metric }) => metric === 'system.paging.faults'),
      ]
        .filter(one => one.metric === metric)
        .filter(
          one => attribute === undefined || Object.values(one.attributes ?? {}).includes(attribute),
        )
        .reduce((sum, one) => sum + Number(one.value), 0);
  };
  return { box, look };
}

/** Faults since boot, by the kernel's own table. */
function hostFaults(): Record<'minor' | 'major', number> {
  const table = readFileSync('/proc/vmstat', 'utf8');
  const of = (key: string) => Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(table)?.[1]);
  return { minor: of('pgfault') - of('pgmajfault'), major: of('pgmajfault') };
}

kernelTest('the memory of an instance is told as its walker has it', async t => {
  const hostBefore = hostFaults();
  const { box, look } = memoryOf(t);
  const walked = await box.walk(['--mb', '128']);
  const value = look();
  within(t, value('container.memory.usage'), 128 << 20, 0.03, 'usage');
  within(t, value('container.memory.working_set'), 128 << 20, 0.03, 'working set');
  within(t, value('sculptor.memory.pages', 'anon'), 128 << 20, 0.03, 'anonymous pages');
  within(t, value('container.memory.paging.faults', 'minor'), walked.minorFaults, 0.02, 'faults');
  t.true(value('sculptor.memory.dirty') < mb, 'nothing waits to be written');
  t.true(value('sculptor.memory.pages', 'unevictable') < mb, 'nothing is locked');

  const locked = await box.walk(['--mb', '32', '--locked']);
  const cold = await box.walk(['--mb', '16', '--file', makeFile(t, 16)]);
  const more = look();
  within(t, more('sculptor.memory.pages', 'unevictable'), 32 << 20, 0.03, 'locked pages');
  within(t, more('sculptor.memory.pages', 'anon'), 128 << 20, 0.03, 'which are no others');
  within(t, more('sculptor.memory.pages', 'file'), 16 << 20, 0.03, 'pages of the file');
  within(t, more('container.memory.usage'), 176 << 20, 0.03, 'usage of all three');
  within(t, more('container.memory.paging.faults', 'major'), cold.majorFaults, 0.02, 'major');
  const minor = walked.minorFaults + locked.minorFaults + cold.minorFaults;
  within(t, more('container.memory.paging.faults', 'minor'), minor, 0.02, 'minor of all three');
  // Of the host there are others' as well.
  const hostAfter = hostFaults();
  for (const [kind, least] of Object.entries({ minor, major: cold.majorFaults })) {
    const told = more('system.paging.faults', kind);
    const most = hostAfter[kind as 'minor'] - hostBefore[kind as 'minor'];
    t.true(told >= 0.98 * least && told <= most, `${kind}: ${least} ${told} ${most}`);
  }
});

kernelTest('pages of a file that were reclaimed and are read again are refaults', async t => {
  const { box, look } = memoryOf(t);
  const file = makeFile(t, 32);
  writeFileSync(`${box.memory}/memory.limit_in_bytes`, String(16 * mb));
  await box.walk(['--mb', '32', '--file', file]);
  t.is(look()('sculptor.memory.refaults', 'file'), 0, 'nothing was read twice');
  // What the first still maps stays when the second has the kernel drop the file, and forget what it reclaimed of it: this half is
  // reclaimed for the other, and read again.
  await box.walk(['--mb', '32', '--file', file]);
  const again = look();
  within(t, again('sculptor.memory.refaults', 'file'), 4096, 0.1, 'refaults');
  t.is(again('sculptor.memory.refaults', 'anon'), 0);
});

kernelTest(
  'what an instance writes to a file is dirty until it is on the disk, and never its working set',
  async t => {
    const { box, look } = memoryOf(t);
    const folder = mkdtempSync(join(tmpdir(), 'sculptor-dirty-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const [file, onDisk] = [`${folder}/written`, `${folder}/on-disk`];
    const wait = (name: string) => `while [ ! -e ${folder}/${name} ]; do sleep 0.1; done`;
    const write = `head -c ${64 * mb} /dev/zero >${file}; touch ${folder}/is-written`;
    box.run('sh', '-c', `${write}; ${wait('go')}; sync ${file}; touch ${onDisk}; exec sleep 60`);
    await eventually('it is written', 20, () => existsSync(`${folder}/is-written`) || null);
    const written = look();
    within(t, written('sculptor.memory.pages', 'file'), 64 * mb, 0.03, 'pages of the file');
    within(t, written('sculptor.memory.dirty'), 64 * mb, 0.03, 'not on the disk');
    t.true(written('container.memory.working_set') < 8 * mb, 'nobody used it again');
    writeFileSync(`${folder}/go`, '');
    await eventually('it is on the disk', 30, () => existsSync(onDisk) || null);
    const synced = look();
    t.true(
      synced('sculptor.memory.dirty') < mb,
      `${synced('sculptor.memory.dirty')} not on the disk`,
    );
    within(t, synced('sculptor.memory.pages', 'file'), 64 * mb, 0.03, 'pages of the file');
  },
);

kernelTest('a running agent exports them, as series of the instance', async t => {
  t.timeout(60_000);
  const told = await startTold();
  t.teardown(told.stop);
  const box = makeWalkerBox();
  t.teardown(box.end);
  const walked = await box.walk(['--mb', '64']);
  const last = (metric: string, type: string) =>
    told
      .pointsOf(metric, box.path)
      .filter(({ attributes }) => attributes['system.paging.fault.type'] === type)
      .at(-1);
  const histogram = await eventually('the fault histogram', 10, () => {
    const value = last('sculptor.memory.fault.latency', 'minor')?.value;
    return typeof value === 'object' && value.count >= walked.pages ? value : null;
  });
  within(t, histogram.count, walked.minorFaults, 0.02, 'faults in the histogram');
  const cold = await box.walk(['--mb', '16', '--file', makeFile(t, 16)]);
  const major = await eventually('the histogram of major faults', 10, () => {
    const value = last('sculptor.memory.fault.latency', 'major')?.value;
    return typeof value === 'object' && value.count >= 0.98 * cold.majorFaults ? value : null;
  });
  within(t, major.count, cold.majorFaults, 0.02, 'major faults in the histogram');
  const counted = await eventually('the faults by memory.stat', 10, () =>
    last('container.memory.paging.faults', 'minor'),
  );
  within(t, Number(counted.value), walked.minorFaults, 0.02, 'faults by memory.stat');
  within(
    t,
    Number(told.pointsOf('container.memory.usage', box.path).at(-1)?.value),
    64 << 20,
    0.05,
    'usage',
  );
  t.is(told.agent.status().sources['faults'], 'running');
  t.is(told.agent.status().sources['memory'], 'running');
});
