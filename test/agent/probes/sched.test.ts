import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import {
  exponentialHistogram,
  type Latencies,
  latencySlots,
} from '../../../src/agent/probes/latency.ts';
import {
  countersOf,
  counterWords,
  decodePairs,
  decodeRunByCpu,
  decodeTasks,
  decodeTotals,
  layout,
  word,
} from '../../../src/agent/probes/sched-layout.ts';
import { structLayout } from '../../support/btf-layout.ts';
import { keyOf, sumsOf } from '../../support/map-sums.ts';

const root = new URL('../../../', import.meta.url).pathname;
const object = `${root}build/bpf/sched.bpf.o`;
const withObject = existsSync(object) ? test : test.skip;
if (!existsSync(object)) console.error('# skipped: build/bpf/sched.bpf.o is not built');

const inTypeScript: Record<string, { struct: string; fields: Record<string, string> }> = {
  totals: {
    struct: 'instance_totals',
    fields: {
      runNs: 'run_ns',
      waitNs: 'wait_ns',
      throttledNs: 'throttled_ns',
      blockedNs: 'blocked_ns',
      voluntarySwitches: 'voluntary_switches',
      involuntarySwitches: 'involuntary_switches',
      wakeups: 'wakeups',
      migrations: 'migrations',
      nodeMigrations: 'node_migrations',
      userNs: 'user_ns',
      kernelNs: 'kernel_ns',
      latencyCount: 'latency_count',
      latencySumNs: 'latency_sum_ns',
      slots: 'slots',
      sleepers: 'sleepers',
      sleptNs: 'slept_ns',
    },
  },
  sums: {
    struct: 'totals_record',
    fields: { id: 'id', runNs: 'run_ns', waitNs: 'wait_ns', throttledNs: 'throttled_ns' },
  },
  record: {
    struct: 'task_record',
    fields: {
      cgroupId: 'cgroup_id',
      startNs: 'start_boottime_ns',
      runNs: 'run_ns',
      waitNs: 'wait_ns',
      throttledNs: 'throttled_ns',
      blockedNs: 'blocked_ns',
      voluntarySwitches: 'voluntary_switches',
      involuntarySwitches: 'involuntary_switches',
      migrations: 'migrations',
      grownNs: 'grown_ns',
      cpu: 'cpu',
      nodeMigrations: 'node_migrations',
      tid: 'tid',
      tgid: 'tgid',
      comm: 'comm',
    },
  },
  stats: {
    struct: 'probe_stats',
    fields: {
      events: 'events',
      lostTaskStorage: 'lost_task_storage',
      lostInstanceFull: 'lost_instance_full',
      lostInstanceMemory: 'lost_instance_memory',
      recovered: 'recovered',
      lostSwitch: 'lost_switch',
      lostWithheldSwitch: 'lost_withheld_switch',
      lostPair: 'lost_pair',
      waitNs: 'wait_ns',
      tgid: 'tgid',
      clockOffset: 'clock_offset',
      comparedNs: 'compared_ns',
    },
  },
  pair: { struct: 'pair', fields: { waiter: 'waiter', preemptor: 'preemptor' } },
};

for (const part of ['totals', 'record', 'stats', 'pair'] as const) {
  withObject(`the decoder's layout of ${part} is the one in the object's BTF`, t => {
    const expected = inTypeScript[part];
    if (!expected) return t.fail();
    const { bytes, offsets } = structLayout(object, expected.struct);
    const { bytes: ourBytes, ...ours } = layout[part] as Record<string, number>;
    t.is(ourBytes, bytes);
    t.deepEqual(
      Object.fromEntries(Object.entries(ours).map(([name, at]) => [expected.fields[name], at])),
      offsets,
    );
  });
}

test('each slot ends at the whole part of its bound in nanoseconds, exactly', t => {
  const header = readFileSync(`${root}bpf/include/latency_bounds.h`, 'utf8');
  const bounds = [...header.matchAll(/(\d+)ULL/g)].map(([, digits]) => BigInt(digits ?? ''));
  t.is(bounds.length, latencySlots);
  for (const [slot, bound] of bounds.entries()) {
    // bound <= 2^((slot+1)/4 - 30) * 10^9, both to the fourth power: whole numbers all the way.
    const limit = 2n ** BigInt(slot + 1) * 10n ** 36n;
    t.true(bound ** 4n * 2n ** 120n <= limit, `slot ${slot}`);
    t.true((bound + 1n) ** 4n * 2n ** 120n > limit, `slot ${slot}`);
  }
});

test('counters of one cgroup that lie in two maps are added up, of others they stay', t => {
  const mapOf = (ids: readonly number[], runNs: number) =>
    new Map(
      ids.map(id => {
        const words = new Float64Array(layout.totals.bytes / 8);
        words[layout.totals.runNs / 8] = runNs;
        words[layout.totals.sleepers / 8] = 1;
        return [id, words] as const;
      }),
    );
  const counters = countersOf([mapOf([7, 8], 100), mapOf([8, 9], 20)]);
  t.deepEqual(
    [...counters].map(([id, sums]) => [id, word(sums, 'runNs')]),
    [
      [7, 100],
      [8, 120],
      [9, 20],
    ],
  );
  // What the probe alone uses is no counter.
  t.true([...counters.values()].every(sums => sums.length === counterWords));
});

test('what was waited for whom is told of both maps of pairs', t => {
  const pair = (waiter: number, preemptor: number, ns: number) =>
    [Buffer.concat([keyOf(waiter), keyOf(preemptor)]), keyOf(ns)] as const;
  const told: number[][] = [];
  decodePairs([sumsOf([pair(7, 8, 6), pair(8, 7, 60)]), sumsOf([pair(7, 9, 100)])]).forEach(
    (...one) => {
      told.push(one);
    },
  );
  t.deepEqual(told, [
    [7, 8, 6],
    [8, 7, 60],
    [7, 9, 100],
  ]);
});

test('the sums of the totals are decoded by cgroup, and no more than were written', t => {
  const { sums } = layout;
  const record = Buffer.alloc(sums.bytes);
  record.writeBigUInt64LE(4242n, sums.id);
  record.writeBigUInt64LE(2n ** 40n, sums.runNs);
  record.writeBigUInt64LE(7n, sums.waitNs);
  record.writeBigUInt64LE(3n, sums.throttledNs);
  const totals = decodeTotals(Buffer.concat([record, record]), 1);
  t.deepEqual([...totals], [[4242, { runNs: 2 ** 40, waitNs: 7, throttledNs: 3 }]]);
  const twice = decodeTotals(Buffer.concat([record, record]), 2);
  t.deepEqual([...twice], [[4242, { runNs: 2 ** 41, waitNs: 14, throttledNs: 6 }]]);
});

test('totals that are written over those of a reading before have the cgroups of the new one alone', t => {
  const totals = decodeTotals(Buffer.concat([recordOf(1n, 10n), recordOf(2n, 20n)]), 2);
  t.is(decodeTotals(Buffer.concat([recordOf(3n, 5n), recordOf(2n, 25n)]), 2, totals), totals);
  const none = { waitNs: 0, throttledNs: 0 };
  t.deepEqual(
    [...totals],
    [
      [2, { runNs: 25, ...none }],
      [3, { runNs: 5, ...none }],
    ],
  );
});

test('a cgroup that is gone is gone from totals that are written over, also where another has two records', t => {
  const totals = decodeTotals(Buffer.concat([recordOf(1n, 10n), recordOf(2n, 20n)]), 2);
  decodeTotals(Buffer.concat([recordOf(2n, 25n), recordOf(2n, 1n)]), 2, totals);
  t.deepEqual([...totals], [[2, { runNs: 26, waitNs: 0, throttledNs: 0 }]]);
});

test('a task record is decoded, its start in ticks as /proc counts them', t => {
  const record = Buffer.alloc(layout.record.bytes);
  record.writeBigUInt64LE(77n, layout.record.cgroupId);
  record.writeBigUInt64LE(12_345_678_901n, layout.record.startNs);
  record.writeBigUInt64LE(2n ** 40n, layout.record.runNs);
  record.writeUInt32LE(4_194_303, layout.record.tid);
  record.writeUInt32LE(5, layout.record.tgid);
  record.write('fifteen letters', layout.record.comm);
  record.writeBigUInt64LE(3n, layout.record.cpu);
  record.writeBigUInt64LE(9n, layout.record.grownNs);
  const [task, ...others] = decodeTasks(Buffer.concat([record, record.subarray(0, 40)]));
  t.is(others.length, 0);
  t.like(task, { tid: 4_194_303, startTicks: 1234, grownNs: 9, cpu: 3 });
  t.like(task?.totals(), {
    cgroupId: 77,
    startTicks: 1234,
    runNs: 2 ** 40,
    tid: 4_194_303,
    tgid: 5,
    name: 'fifteen letters',
  });
});

function recordOf(id: bigint, runNs: bigint): Buffer {
  const { sums } = layout;
  const record = Buffer.alloc(sums.bytes);
  record.writeBigUInt64LE(id, sums.id);
  record.writeBigUInt64LE(runNs, sums.runNs);
  return record;
}

function totalsOf(slots: ReadonlyMap<number, number>): Latencies {
  const counts = new Float64Array(latencySlots);
  for (const [slot, count] of slots) counts[slot] = count;
  return {
    latencyCount: counts.reduce((a, b) => a + b, 0),
    latencySumNs: 0,
    slots: counts,
  };
}

const someSlots = fc
  .array(fc.tuple(fc.nat({ max: latencySlots - 1 }), fc.integer({ min: 1, max: 1e9 })), {
    maxLength: 30,
  })
  .map(entries => totalsOf(new Map(entries)));

test('the exponential histogram keeps every bucket under its index, and no empty ends', t => {
  fc.assert(
    fc.property(someSlots, totals => {
      const histogram = exponentialHistogram(totals);
      t.is(
        histogram.counts.reduce((a, b) => a + b, 0),
        histogram.count,
      );
      for (const [i, count] of histogram.counts.entries()) {
        t.is(totals.slots[histogram.offset + 120 + i], count);
      }
      if (histogram.count > 0) {
        t.true((histogram.counts[0] ?? 0) > 0 && (histogram.counts.at(-1) ?? 0) > 0);
      }
    }),
  );
});

test('a latency of 1 µs lies at index -80 of the exponential histogram', t => {
  // 10^-6 s = 2^-19.93: within (2^-20, 2^-19.75], index -80.
  const header = readFileSync(`${root}bpf/include/latency_bounds.h`, 'utf8');
  const bounds = [...header.matchAll(/(\d+)ULL/g)].map(([, digits]) => Number(digits));
  const slot = bounds.findIndex(bound => 1000 <= bound);
  t.is(exponentialHistogram(totalsOf(new Map([[slot, 1]]))).offset, -80);
});

test('run time by CPU is that of each cgroup, and of one that was answered twice the later one', t => {
  const keys = Buffer.concat([7, 8, 7].map(keyOf));
  const words = Float64Array.of(1, 2, 3, 4, 5, 6);
  const run = decodeRunByCpu({ count: 3, maxEntries: 16, cpus: 2, keys, words });
  t.deepEqual(
    [...run].map(([id, byCpu]) => [id, ...byCpu]),
    [
      [7, 5, 6],
      [8, 3, 4],
    ],
  );
});
