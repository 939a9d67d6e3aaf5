import test, { type ExecutionContext } from 'ava';
import { startVdiskSource } from '../../../src/agent/block/vdisk-source.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { makeTree, mounts, taskFiles } from '../../linux/tree.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';
/** When the machine was booted. */
const booted = 1_000_000;

type Counts = {
  reads: number;
  readMs?: number;
  writes?: number;
  flushes?: number;
  discards?: number;
};
type Drives = Readonly<Record<string, number | Counts>>;

/** Drives by name and number of reads, of 4 KB and 1 ms each; writes are of 8 KB and 2 ms, flushes of 3 ms, discards of 4 ms. */
const answerOf = (drives: Drives) =>
  Object.entries(drives).map(([device, counts]) => {
    const of: Counts = typeof counts === 'number' ? { reads: counts } : counts;
    return statsOf(device, of);
  });

function statsOf(device: string, of: Counts) {
  const { reads, readMs = reads, writes = 0, flushes = 0, discards = 0 } = of;
  return {
    device,
    stats: {
      rd_bytes: reads * 4096,
      rd_operations: reads,
      rd_total_time_ns: readMs * 1e6,
      wr_bytes: writes * 8192,
      wr_operations: writes,
      wr_total_time_ns: writes * 2e6,
      flush_operations: flushes,
      flush_total_time_ns: flushes * 3e6,
      unmap_bytes: discards * 16_384,
      unmap_operations: discards,
      unmap_total_time_ns: discards * 4e6,
    },
  };
}

/** A VM whose QEMU was started so many seconds after the agent, which runs since 1000 s after boot. */
function start(t: ExecutionContext, options: { bornAfter?: number; qmp?: boolean } = {}) {
  const { bornAfter = -500, qmp = true } = options;
  const cmdline = ['qemu-system-x86_64', '-uuid', uuid, ...(qmp ? ['-qmp', 'unix:/run/q'] : [])];
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'proc/uptime': '1000.25 1900.10',
    'cgroup/cgroup.controllers': 'cpu',
    'cgroup/vm/cgroup.procs': '50',
    ...taskFiles(50, { cmdline, startTicks: (1000 + bornAfter) * 100 }),
  });
  const clock = steppedClock(booted + 1000);
  const said: string[] = [];
  const questions: { resolve: (answer: unknown) => void; reject: (error: Error) => void }[] = [];
  const asked: string[] = [];
  const context = {
    config: { detailIntervalSeconds: 10 },
    roots: tree,
    layout: readCgroupLayout(tree),
    clock,
    say: (_level: string, text: string) => void said.push(text),
  } as unknown as SourceContext;
  const source = startVdiskSource(context, (path, execute) => {
    asked.push(`${path.slice(tree.proc.length)} ${execute}`);
    return new Promise((resolve, reject) => questions.push({ resolve, reject }));
  });
  t.teardown(source.stop);
  const living = {
    instance: { id: uuid, kind: 'vm', name: 'web' },
    path: '/vm',
    start: booted + 1000 + Math.max(0, bornAfter),
    members: new Map([[7, '/vm']]),
  } as unknown as LivingInstance;
  source.read([living]);
  /** Lets an interval pass, and answers the question that comes. */
  const round = async (
    reply: Drives | Error | null,
    seconds = 10,
    meanwhile: () => void = () => undefined,
  ): Promise<void> => {
    clock.step(seconds);
    meanwhile();
    const question = questions.shift();
    if (reply instanceof Error) question?.reject(reply);
    else if (reply) question?.resolve(answerOf(reply));
    await new Promise(setImmediate);
    source.read([living]);
  };
  let tgid = 50;
  /** Another QEMU in its place, so many seconds after boot. */
  const restart = (next: number, bornAt: number): void => {
    tree.remove(`proc/${tgid}`);
    tgid = next;
    tree.write({
      'cgroup/vm/cgroup.procs': `${tgid}`,
      ...taskFiles(tgid, { cmdline, startTicks: bornAt * 100 }),
    });
  };
  const told = () =>
    source
      .samples(living)
      .map(({ metric, attributes, value }) => [
        String(metric).slice('sculptor.vdisk.'.length),
        ...Object.values(attributes ?? {}),
        value,
      ]);
  return { tree, source, living, round, told, restart, asked, said, clock };
}

test('what a VM did before the agent ran is no part of its series', async t => {
  const { source, living, round, told, asked } = start(t);
  t.deepEqual(told(), []);
  await round({ system: 100 });
  t.deepEqual(asked, ['/50/root/run/q query-blockstats']);
  t.deepEqual(told(), [
    ['io', 'system', 'read', 0],
    ['operations', 'system', 'read', 0],
    ['time', 'system', 'read', 0],
  ]);
  await round({ system: 105, data: 2 });
  t.deepEqual(told(), [
    ['io', 'system', 'read', 5 * 4096],
    ['operations', 'system', 'read', 5],
    ['time', 'system', 'read', 5e-3],
    ['io', 'data', 'read', 2 * 4096],
    ['operations', 'data', 'read', 2],
    ['time', 'data', 'read', 2e-3],
  ]);
  t.true(source.samples(living).every(sample => sample.start === booted + 1010));
});

test('a VM that is younger than the agent is told from its beginning', async t => {
  const { source, living, round, told } = start(t, { bornAfter: 5 });
  await round({ system: 100 });
  t.deepEqual(told()[1], ['operations', 'system', 'read', 100]);
  t.is(source.samples(living)[0]?.start, booted + 1005);
});

test('a VM that is younger than the agent is known for it, however the clock is set', async t => {
  const { clock, round, told } = start(t, { bornAfter: 5 });
  clock.setWall(-3600);
  await round({ system: 100 });
  t.deepEqual(told()[1], ['operations', 'system', 'read', 100]);
});

test('what is read, written, flushed and discarded is told apart', async t => {
  const { round, told } = start(t, { bornAfter: 5 });
  await round({ system: { reads: 10, writes: 3, flushes: 2, discards: 1 } });
  t.deepEqual(told(), [
    ['io', 'system', 'read', 10 * 4096],
    ['operations', 'system', 'read', 10],
    ['time', 'system', 'read', 10e-3],
    ['io', 'system', 'write', 3 * 8192],
    ['operations', 'system', 'write', 3],
    ['time', 'system', 'write', 6e-3],
    ['operations', 'system', 'flush', 2],
    ['time', 'system', 'flush', 6e-3],
    ['operations', 'system', 'discard', 1],
    ['time', 'system', 'discard', 4e-3],
  ]);
});

test('no series falls though a count of QEMU does', async t => {
  const { round, told } = start(t, { bornAfter: 5 });
  await round({ system: 10 });
  await round({ system: { reads: 12, readMs: 4 } });
  t.deepEqual(told()[1], ['operations', 'system', 'read', 12]);
  t.deepEqual(told()[2], ['time', 'system', 'read', 10e-3]);
});

test('series do not fall when a drive is taken out and put in', async t => {
  const { round, told } = start(t, { bornAfter: 5 });
  await round({ system: 100 });
  await round({ system: 30 });
  t.deepEqual(told()[1], ['operations', 'system', 'read', 130]);
});

test('all that a QEMU does that was started anew in the same cgroup is told, also where it is more than the one before did', async t => {
  const { source, round, told, restart, asked } = start(t, { bornAfter: 5 });
  await round({ system: 100 });
  restart(51, 1015);
  await round({ system: 150 });
  t.deepEqual(told()[1], ['operations', 'system', 'read', 250]);
  // The answer may be of the next one already, which is asked at once.
  await round({ system: 999 }, 10, () => restart(52, 1028));
  await round({ system: 7 }, 1);
  t.deepEqual(told()[1], ['operations', 'system', 'read', 257]);
  t.deepEqual(
    asked.map(each => each.split('/')[1]),
    ['50', '51', '51', '52'],
  );
  t.is(source.lost()['unanswered'], 0);
});

test('a monitor that is silent is asked ever more seldom, and what was known stands', async t => {
  const { source, round, told, asked, said } = start(t, { bornAfter: 5 });
  await round({ system: 100 });
  for (let i = 0; i < 30; i += 1) await round(new Error('no answer within 2 s'));
  // After 2, 4 and 8 intervals; the next comes after 16.
  t.is(asked.length, 1 + 4);
  t.is(source.lost()['unanswered'], 4);
  t.is(said.length, 1);
  t.regex(said[0] ?? '', /web: its drives are not told: .*no answer within 2 s/);
  t.deepEqual(told()[1], ['operations', 'system', 'read', 100]);
  const unknown = source.host().map(({ attributes, value }) => [attributes, value]);
  t.deepEqual(unknown[2], [{ 'sculptor.reason': 'qmp_silent' }, 1]);
});

test('a question that hangs is not asked again meanwhile', async t => {
  const { round, asked } = start(t);
  await round(null);
  await round(null);
  await round(null);
  t.is(asked.length, 1);
});

test('a VM without a QMP socket is told as unknown, and not asked', async t => {
  const { source, round, asked } = start(t, { qmp: false });
  await round(null);
  t.deepEqual(asked, []);
  const unknown = source
    .host()
    .map(({ attributes, value }) => [attributes?.['sculptor.reason'], value]);
  t.deepEqual(unknown, [
    ['no_qemu', 0],
    ['no_qmp', 1],
    ['qmp_silent', 0],
    ['libvirt_silent', 0],
    ['libvirt_unknown', 0],
  ]);
});

test('a VM that ended is told as it was last', async t => {
  const { source, living, round } = start(t, { bornAfter: 5 });
  await round({ system: 100 });
  source.read([]);
  t.is(source.samples(living)[1]?.value, 100);
});

test('sixteen drives of a VM are told, the others counted', async t => {
  const { source, round, told } = start(t);
  await round(Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`d${i}`, 1])));
  t.is(new Set(told().map(([, device]) => device)).size, 16);
  t.is(source.lost()['too_many_drives'], 4);
  await round(Object.fromEntries(Array.from({ length: 19 }, (_, i) => [`d${i}`, 1])));
  t.is(source.lost()['too_many_drives'], 4 + 3);
});

test('a drive that is taken out is told no more, makes room, and begins anew when it is put in again', async t => {
  const { source, living, round, told } = start(t, { bornAfter: 5 });
  const of = (name: string) => told().filter(([, device]) => device === name);
  await round({ data: 100, system: 1 });
  await round({ system: 1 });
  await round({ system: 1 });
  t.is(of('data').length, 3, 'it may be back in the next answer');
  await round({ system: 1 });
  t.deepEqual(of('data'), []);
  await round({ data: 7, system: 1 });
  t.deepEqual(of('data')[1], ['operations', 'data', 'read', 7]);
  const starts = new Map(
    source.samples(living).map(one => [one.attributes?.['system.device'], one.start]),
  );
  t.deepEqual(
    [...starts],
    [
      ['system', booted + 1005],
      ['data', booted + 1040],
    ],
  );
  for (let i = 0; i < 20; i += 1)
    for (let answer = 0; answer < 3; answer += 1) await round({ system: 1, [`usb${i}`]: 1 });
  t.is(of('usb19').length, 3);
  t.is(source.lost()['too_many_drives'], 0);
});

test('a drive that gets the room of another is told from then on', async t => {
  const { source, living, round, told } = start(t, { bornAfter: 5 });
  const fifteen = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`d${i}`, 1]));
  await round({ ...fifteen, gone: 1, late: 100 });
  for (let i = 0; i < 3; i += 1) await round({ ...fifteen, late: 100 });
  await round({ ...fifteen, late: 105 });
  t.deepEqual(told().at(-2), ['operations', 'late', 'read', 5]);
  t.is(source.samples(living).at(-1)?.start, booted + 1040);
});

test('a drive that gets the room of another in a QEMU that was started anew is told from its beginning', async t => {
  const { round, told, restart } = start(t, { bornAfter: 5 });
  const fifteen = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`d${i}`, 1]));
  await round({ ...fifteen, gone: 1, late: 100 });
  for (let i = 0; i < 2; i += 1) await round({ ...fifteen, late: 100 });
  restart(51, 1035);
  await round({ ...fifteen, late: 7 });
  t.deepEqual(told().at(-2), ['operations', 'late', 'read', 7]);
});
