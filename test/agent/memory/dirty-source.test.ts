import test, { type ExecutionContext } from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { startDirtySource } from '../../../src/agent/memory/dirty-source.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { KernelInterfaceError } from '../../../src/contract/errors.ts';
import type { Clock } from '../../../src/contract/ports.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import type { QmpArguments } from '../../../src/linux/qmp.ts';
import { makeTree, mounts, taskFiles } from '../../linux/tree.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const mib = 1 << 20;
const began = 1_000_000;

const refusal = (command: string, why: string) =>
  new KernelInterfaceError('QMP_UNAVAILABLE', `/run/q: refused ${command}: ${why}`, {
    refused: why,
  });

/** The measurements of one QEMU, whoever asks for them; what it answers otherwise is set by a test. */
function createQemu(clock: Clock) {
  let [startTime, ends, rate] = [0, 0, 0];
  const isMeasuring = () => clock.monotonicSeconds() < ends;
  const qemu = {
    writes: (mibPerSecond: number) => {
      rate = mibPerSecond;
    },
    measure: (seconds: number) => {
      [startTime, ends] = [clock.unixSeconds(), clock.monotonicSeconds() + seconds];
    },
    isMeasuring,
    /** Of a thread that takes so long for what is to take a second. */
    slowness: 1,
    instead: (_execute: string): unknown => undefined,
    answer: (execute: string, args?: QmpArguments): unknown => {
      const other = qemu.instead(execute);
      if (other instanceof Error) throw other;
      if (other !== undefined) return other;
      if (execute === 'calc-dirty-rate') {
        if (isMeasuring()) throw refusal(execute, 'the dirty rate is already being measured.');
        qemu.measure(Number(args?.['calc-time']) * qemu.slowness);
        return {};
      }
      const about = { 'start-time': startTime, 'calc-time': 1, mode: 'page-sampling' };
      if (isMeasuring()) return { status: 'measuring', ...about };
      if (startTime === 0) return { status: 'unstarted', ...about };
      return { status: 'measured', 'dirty-rate': rate, ...about };
    },
  };
  return qemu;
}

/** VMs, each with a monitor of its own; intervals are of 60 s. */
function start(
  t: ExecutionContext,
  { vms = 1, qmp = true, args = [] }: { vms?: number; qmp?: boolean; args?: string[] } = {},
) {
  const indexes = Array.from({ length: vms }, (_, i) => i);
  const uuids = indexes.map(i => `1b671a64-40d5-491e-99b0-da01ff1f33${10 + i}`);
  const filesOf = (i: number) => ({
    [`cgroup/vm${i}/cgroup.procs`]: `${50 + i}`,
    ...taskFiles(50 + i, {
      cmdline: [
        ...['qemu-system-x86_64', '-uuid', uuids[i] ?? ''],
        ...(qmp ? ['-qmp', `unix:/run/${i}`] : []),
        ...args,
      ],
    }),
  });
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    ...Object.assign({}, ...indexes.map(filesOf)),
  });
  const clock = steppedClock(began);
  const said: string[] = [];
  const asked: string[] = [];
  const qemus = indexes.map(() => createQemu(clock));
  const context = {
    config: { placementIntervalSeconds: 60 },
    roots: tree,
    layout: readCgroupLayout(tree),
    clock,
    say: (_level: string, text: string) => void said.push(text),
  } as unknown as SourceContext;
  const source = startDirtySource(context, async (path, execute, _limits, args) => {
    asked.push(args ? `${execute} ${JSON.stringify(args)}` : execute);
    return qemus[Number(path.split('/').at(-1))]?.answer(execute, args);
  });
  t.teardown(source.stop);
  const living = indexes.map(
    i =>
      ({
        instance: { id: uuids[i], kind: 'vm', name: `web${i}` },
        path: `/vm${i}`,
        start: began - 100,
        members: new Map([[7 + i, `/vm${i}`]]),
      }) as unknown as LivingInstance,
  );
  source.read(living);
  const pass = async (seconds: number): Promise<void> => {
    for (let i = 0; i < seconds * 2; i += 1) {
      clock.step(0.5);
      await new Promise(setImmediate);
    }
  };
  const [first, qemu] = [living[0], qemus[0]];
  if (!first || !qemu) throw new Error('no VM');
  return {
    ...{ source, living, first, qemus, qemu, asked, said, pass },
    told: () => source.samples(first).map(({ value }) => Number(value) / mib),
    calculated: () => asked.filter(command => command.startsWith('calc')).length,
    unknown: () =>
      source.host().flatMap(({ attributes, value }) => {
        return value === 0 ? [] : [[attributes?.['sculptor.reason'], value]];
      }),
  };
}

test('a VM is measured once in an interval, and told in bytes per second', async t => {
  const { source, first, qemu, asked, told, unknown, pass } = start(t);
  qemu.writes(40);
  t.deepEqual(told(), []);
  await pass(5);
  const look = 'query-dirty-rate';
  const commands = [look, 'calc-dirty-rate {"calc-time":1}', look, look];
  t.deepEqual(asked, commands);
  t.deepEqual(source.samples(first), [
    { metric: 'sculptor.memory.dirty_rate', start: began - 100, value: 40 * mib },
  ]);
  t.deepEqual(unknown(), []);
  qemu.writes(0);
  await pass(54);
  t.deepEqual(asked, commands, 'the interval is not over');
  t.deepEqual(told(), [40]);
  await pass(6);
  t.deepEqual(asked, [...commands, ...commands]);
  t.deepEqual(told(), [0], 'a guest that writes nothing is told as such');
});

test('a guest that takes QEMU long to hash is waited for', async t => {
  const { qemu, told, pass } = start(t);
  qemu.writes(3);
  qemu.slowness = 9;
  await pass(8);
  t.deepEqual(told(), []);
  await pass(5);
  t.deepEqual(told(), [3]);
});

test("somebody else's measurement is left alone, and its result taken when it is done", async t => {
  const { qemu, told, calculated, unknown, pass } = start(t);
  qemu.writes(7);
  qemu.measure(20);
  await pass(15);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['qmp_busy', 1]]);
  await pass(12);
  t.deepEqual(told(), [7]);
  t.deepEqual(unknown(), []);
  t.is(calculated(), 0);
  await pass(70);
  t.is(calculated(), 1);
});

test("somebody else's result is taken, and not replaced before he has read it", async t => {
  const { qemu, told, calculated, pass } = start(t);
  await pass(30);
  qemu.writes(7);
  qemu.measure(5);
  await pass(35);
  t.deepEqual(told(), [7]);
  t.is(calculated(), 1);
  await pass(60);
  t.is(calculated(), 2, 'and after an interval it is measured anew');
});

test('a result that was there at the beginning may be old, and is not told', async t => {
  const { qemu, told, calculated, pass } = start(t);
  qemu.writes(7);
  qemu.measure(0);
  qemu.slowness = 3;
  await pass(3);
  t.deepEqual(told(), []);
  t.is(calculated(), 1);
});

test('a result that a monitor has after it was silent may be old, and is not told', async t => {
  const { qemu, told, calculated, pass } = start(t);
  await pass(10);
  qemu.instead = () => new Error('no answer within 2 s');
  qemu.measure(1);
  await pass(60);
  qemu.instead = () => undefined;
  await pass(130);
  t.is(calculated(), 2);
  t.is(told().length, 1);
});

test('where somebody begins between the look and the command QEMU refuses ours, which is asked again later', async t => {
  const { qemu, told, unknown, pass } = start(t);
  let isFirst = true;
  qemu.instead = execute => {
    if (execute === 'calc-dirty-rate' && isFirst) {
      isFirst = false;
      qemu.measure(10);
    }
    return undefined;
  };
  await pass(5);
  t.deepEqual(unknown(), [['qmp_refused', 1]]);
  t.true(qemu.isMeasuring());
  await pass(120);
  t.deepEqual(told(), [0]);
  t.deepEqual(unknown(), []);
});

test('where somebody begins between the end of ours and our look, his is left alone and told as his', async t => {
  const { source, qemu, told, calculated, unknown, pass } = start(t);
  // Ours begins with the turn after one second.
  await pass(2);
  qemu.writes(7);
  qemu.measure(40);
  await pass(38);
  t.deepEqual(unknown(), [['qmp_busy', 1]]);
  await pass(10);
  t.deepEqual(told(), [7]);
  t.deepEqual(unknown(), []);
  t.is(source.lost()['unanswered'], 0);
  await pass(50);
  t.is(calculated(), 1, 'he has an interval to read it');
  await pass(15);
  t.is(calculated(), 2);
});

test('a QEMU that does not know the command is asked ever more seldom, counted, and said once', async t => {
  const { source, qemu, asked, said, told, unknown, pass } = start(t);
  const why = 'The command query-dirty-rate has not been found';
  qemu.instead = execute => refusal(execute, why);
  await pass(31 * 60);
  // At once, and after 2, 4, 8 and 16 intervals.
  t.is(asked.length, 4 + 1);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['qmp_refused', 1]]);
  t.is(said.length, 1);
  t.regex(said[0] ?? '', /web0: how fast its memory .* is not told: .*has not been found/);
  t.is(source.lost()['unanswered'], 0, 'it did answer');
});

test('a monitor that is silent is counted; what was told of its VM ends after three intervals', async t => {
  const { source, qemu, told, unknown, pass } = start(t);
  qemu.writes(40);
  await pass(5);
  qemu.instead = () => new Error('no answer within 2 s');
  await pass(60);
  t.deepEqual(unknown(), [['qmp_silent', 1]]);
  t.is(source.lost()['unanswered'], 1);
  t.deepEqual(told(), [40]);
  await pass(115);
  t.deepEqual(told(), [40]);
  await pass(5);
  t.deepEqual(told(), []);
});

test('one that answers something else is said with what was wrong', async t => {
  const { qemu, said, told, unknown, pass } = start(t);
  qemu.instead = execute =>
    execute === 'query-dirty-rate'
      ? { status: 'measured', 'start-time': 5, 'dirty-rate': -1 }
      : undefined;
  await pass(15 * 60);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['qmp_silent', 1]]);
  t.regex(said[0] ?? '', /query-dirty-rate answered something else: .*dirty-rate/s);
});

test('a measurement that comes to no end is given up', async t => {
  const { source, qemu, calculated, unknown, pass } = start(t);
  qemu.slowness = 1e6;
  await pass(40);
  t.is(calculated(), 1);
  t.deepEqual(unknown(), [['qmp_silent', 1]]);
  t.is(source.lost()['unanswered'], 1);
});

test('a VM that ends while it is measured owes no answer, and is told as it was last', async t => {
  const { source, qemu, told, unknown, pass } = start(t);
  qemu.writes(40);
  await pass(61.5);
  t.true(qemu.isMeasuring());
  source.read([]);
  qemu.instead = () => new Error('connect ENOENT');
  await pass(10);
  t.deepEqual(told(), [40]);
  t.deepEqual(unknown(), []);
  t.is(source.lost()['unanswered'], 0);
});

test('few VMs are measured at once, and all of them soon', async t => {
  const { source, living, qemus, pass } = start(t, { vms: 30 });
  let most = 0;
  for (let i = 0; i < 30; i += 1) {
    await pass(0.5);
    most = Math.max(most, qemus.filter(({ isMeasuring }) => isMeasuring()).length);
  }
  t.is(most, 8);
  t.true(living.every(one => source.samples(one).length === 1));
});

test('a VM without a QMP socket is told as unknown, and not asked', async t => {
  const { asked, unknown, pass } = start(t, { qmp: false });
  await pass(5);
  t.deepEqual(asked, []);
  t.deepEqual(unknown(), [['no_qmp', 1]]);
});

test('once it is stopped it asks nothing more', async t => {
  const { source, asked, pass } = start(t);
  await pass(1.5);
  t.is(asked.length, 3);
  source.stop();
  await pass(120);
  t.is(asked.length, 3);
});

test('memory that would grow by being sampled is not, and the reason is told', async t => {
  const args = ['-object', 'memory-backend-memfd,id=m,size=1G'];
  const { asked, told, unknown, pass } = start(t, { args });
  await pass(125);
  t.deepEqual(asked, []);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['would_grow', 1]]);
});
