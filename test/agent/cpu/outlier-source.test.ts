import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { outlierEvent, outlierSource } from '../../../src/agent/cpu/outlier-source.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { layout } from '../../../src/agent/probes/outliers.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { detailAttribute, type OutgoingEvent } from '../../../src/contract/events.ts';
import { attr } from '../../../src/contract/metrics.ts';
import { outlierSchema } from '../../../src/contract/outlier.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
import { decodeLogs } from '../../../src/otlp/decode-logs.ts';
import { eventEncoder } from '../../../src/otlp/events-exporter.ts';
import { makeTree } from '../../linux/tree.ts';
import { wordsOf } from '../../support/map-sums.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const built = new URL('../../../build/bpf/outliers.bpf.o', import.meta.url);
const hasProbe = existsSync(built) && existsSync('/sys/kernel/btf/vmlinux');
const withProbe = hasProbe ? test : test.skip;
if (!hasProbe) console.error('# skipped: no build/bpf/outliers.bpf.o, or no BTF of the kernel');

const party = (name: string, tid: number) => ({ name, tid, tgid: tid, instance: `/${name}` });
const told = outlierSchema.parse({
  hostId: 'host',
  at: 1,
  seconds: 0.012,
  throttledSeconds: 0,
  cpu: 1,
  task: { ...party('spin', 7), startTicks: 0 },
  began: 'preempted',
  waker: party('cron', 9),
  preemptor: party('hog', 8),
  stack: ['__schedule', 'schedule'],
  stackId: '0123456789abcdef',
});
const bodyOf = (changed: Partial<typeof told>) => outlierEvent({ ...told, ...changed }).body;

test('what a person reads says how a wait began, who had the CPU, and how long a quota held the task back besides', t => {
  t.is(
    bodyOf({}),
    'spin (7, /spin) waited 12.0 ms for CPU 1; preempted; it ran after hog (8, /hog)',
  );
  t.is(
    bodyOf({ began: 'throttled', throttledSeconds: 0.0801 }),
    'spin (7, /spin) waited 12.0 ms for CPU 1, throttled for 80.1 ms besides; its quota was used up; it ran after hog (8, /hog)',
  );
  t.is(
    bodyOf({ began: 'woken', throttledSeconds: 0.0801, waker: null, preemptor: null }),
    'spin (7, /spin) waited 12.0 ms for CPU 1, throttled for 80.1 ms besides; woken by an interrupt; the CPU was idle',
  );
});

test('of the names of tasks, which are whatever they write, a person reads no control characters', t => {
  t.regex(bodyOf({ preemptor: party('\x1b]0;x\x07', 8) }), /it ran after \ufffd\]0;x\ufffd \(8, /);
});

test('whose wait it was can be filtered by, and it is dated when the wait ended', t => {
  const { attributes, ...event } = outlierEvent(told);
  const { [detailAttribute]: detail, ...flat } = attributes;
  t.deepEqual(flat, {
    'host.id': 'host',
    'sculptor.instance.id': '/spin',
    'process.pid': 7,
    'thread.id': 7,
    'thread.name': 'spin',
    'sculptor.preemptor': '/hog',
    'sculptor.preemptor.thread.id': 8,
    'sculptor.preemptor.thread.name': 'hog',
    'sculptor.waker': '/cron',
    'sculptor.waker.thread.id': 9,
    'sculptor.waker.thread.name': 'cron',
    'sculptor.outlier.stack_id': '0123456789abcdef',
    'cpu.logical_number': 1,
    'sculptor.outlier.wait': 0.012,
    'sculptor.outlier.began': 'preempted',
  });
  const nobody = outlierEvent({ ...told, waker: null, preemptor: null, stack: [], stackId: null });
  t.deepEqual(
    Object.keys(nobody.attributes).filter(name => /preemptor|waker|stack_id/.test(name)),
    [],
  );
  t.deepEqual(detail, told);
  const [decoded] = decodeLogs(eventEncoder('scope', {})({ ...event, attributes }, 5));
  t.is(decoded?.time, told.at);
});

/** One wait as the kernel keeps it, which ended just now. */
function wait(cgroupId: number, address?: bigint): Buffer {
  const { outlier, party } = layout;
  const value = Buffer.alloc(outlier.bytes);
  value.writeBigUInt64LE(process.hrtime.bigint(), outlier.endedNs);
  value.writeBigUInt64LE(12_000_000n, outlier.latencyNs);
  value.writeBigUInt64LE(BigInt(cgroupId), outlier.waiter + party.cgroupId);
  value.writeUInt32LE(7, outlier.waiter + party.tid);
  value.writeUInt32LE(7, outlier.waiter + party.tgid);
  value.write('spin', outlier.waiter + party.comm);
  if (address !== undefined) {
    value.writeInt32LE(8, outlier.stackBytes);
    value.writeBigUInt64LE(address, outlier.stack);
  }
  return value;
}

/** The kernel's side: each start is a probe of its own, which counts from nothing. */
function stage(t: ExecutionContext) {
  const clock = steppedClock();
  const probes: { waits: Buffer[]; stats: Buffer; isOpen: boolean }[] = [];
  let refusal: Error | null = null;
  let tries = 0;
  const loadObject = (): Partial<BpfObject> => {
    tries += 1;
    if (refusal) throw refusal;
    const probe = { waits: [] as Buffer[], stats: Buffer.alloc(layout.stats.bytes), isOpen: true };
    probes.push(probe);
    return {
      attach: () => undefined,
      takeMap: () => {
        const values = Buffer.concat(probe.waits.splice(0));
        return { count: 0, maxEntries: 0, cpus: 1, valueSize: 0, keys: values, values };
      },
      lookupSums: () => wordsOf(probe.stats),
      close: () => {
        probe.isOpen = false;
      },
    };
  };
  const config = { outliers: { aboveSeconds: null as number | null, perInstancePerSecond: 5 } };
  const told: { at: number; instance: unknown }[] = [];
  const source = outlierSource.start({
    clock,
    config,
    hostId: 'host',
    native: { loadObject } as unknown as Native,
    roots: makeTree(t, { 'proc/': '' }),
    layout: { version: 2 },
    emit: ({ attributes }: OutgoingEvent) => {
      const { at, task } = outlierSchema.parse(attributes[detailAttribute]);
      told.push({ at, instance: task.instance });
    },
  } as unknown as SourceContext);
  return {
    source,
    clock,
    probes,
    told,
    ask: (aboveSeconds: number | null) => {
      config.outliers = { ...config.outliers, aboveSeconds };
      clock.step(0.5);
    },
    refuse: (error: Error | null) => {
      refusal = error;
    },
    tries: () => tries,
    counts: () =>
      Object.fromEntries(
        source.host().map(({ attributes, value }) => [attributes?.[attr.reason], value]),
      ),
  };
}

const turn = () => new Promise(resolve => setImmediate(resolve));
const life = (id: number, cgroup: number) =>
  ({ instance: { id: `/${id}` }, members: new Map([[cgroup, '']]) }) as unknown as LivingInstance;

withProbe(
  'what was counted stands when another threshold is asked for, and when none is',
  async t => {
    const { source, clock, probes, told, ask, counts, tries } = stage(t);
    clock.step(1);
    t.is(tries(), 0);
    ask(0.01);
    source.read([life(1, 70)]);
    const [first] = probes;
    for (const [i, at] of [layout.stats.limited, layout.stats.full, layout.stats.memory].entries())
      first?.stats.writeBigUInt64LE(BigInt(i + 2), at);
    first?.waits.push(wait(70), wait(80));
    ask(null);
    await turn();
    t.false(first?.isOpen);
    t.deepEqual(counts(), { told: 2, excess: 0, limited: 2, full: 3, memory: 4 });
    t.deepEqual(source.lost(), { not_told: 7 });
    t.deepEqual(
      told.map(({ instance }) => instance),
      ['/1', null],
    );
    for (const { at } of told) t.true(Math.abs(at - clock.unixSeconds()) < 1, `${at}`);

    ask(0.02);
    clock.step(2);
    t.is(probes.length, 2);
    const second = probes[1];
    second?.stats.writeBigUInt64LE(5n, layout.stats.limited);
    t.is(counts()['limited'], 7);
    // Another life may have the key of one that ended.
    source.read([]);
    second?.waits.push(wait(70));
    source.stop();
    await turn();
    t.is(told.at(-1)?.instance, null);
    t.false(second?.isOpen);
    second?.waits.push(wait(70));
    clock.step(2);
    await turn();
    t.is(told.length, 3);
  },
);

withProbe('of too many at once, and of more than are being named, the rest is counted', async t => {
  const { clock, probes, told, ask, counts, source } = stage(t);
  ask(0.01);
  const waits = probes[0]?.waits;
  for (let i = 0; i < 300; i += 1) waits?.push(wait(70));
  clock.step(0.5);
  await turn();
  t.is(told.length, 256);
  t.is(counts()['excess'], 44);
  // Nothing is named between these.
  for (let i = 0; i < 6; i += 1) {
    waits?.push(wait(70));
    clock.step(0.5);
  }
  await turn();
  t.is(told.length, 260);
  t.is(counts()['excess'], 46);
  t.deepEqual(source.lost(), { not_told: 46 });
  waits?.push(wait(70));
  clock.step(0.5);
  await turn();
  t.is(told.length, 261);
  source.stop();
});

withProbe(
  'what goes wrong meanwhile is said with the next reading, once, and tried again then',
  async t => {
    const { clock, probes, told, ask, refuse, tries, source, counts } = stage(t);
    refuse(new Error('refused'));
    ask(0.01);
    clock.step(5);
    t.is(tries(), 1, 'not before it was said');
    refuse(null);
    t.throws(() => source.read([]), { message: /refused/ });
    source.read([]);
    clock.step(0.5);
    t.is(probes.length, 1);

    // There is no /proc/kallsyms.
    probes[0]?.waits.push(wait(70, 0xffffffff81000000n));
    clock.step(0.5);
    while (counts()['excess'] === 0) await turn();
    t.throws(() => source.read([]), { code: 'ENOENT' });
    t.is(told.length, 0);
    source.stop();
  },
);
