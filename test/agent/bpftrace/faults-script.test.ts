import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import { decodeFaultSums, startFaultsScript } from '../../../src/agent/bpftrace/faults-script.ts';
import { lossesOf, stagedScript } from '../support/staged-script.ts';

const losses = lossesOf({ map_full: 2 });

const scene = (sys = '/') => stagedScript({ losses, roots: { sys } });

/** Counts by slot, without those of 0. */
const slotsOf = ({ slots }: { slots: Float64Array }) =>
  Object.fromEntries([...slots.entries()].filter(([, count]) => count > 0));

test('sums and counts by cgroup and kind are the totals of the libbpf probe; an autogroup is the root', t => {
  const totals = decodeFaultSums(
    new Map([
      ['7,0', 5000],
      ['7,1', 90_000],
      ['0,0', 10],
      ['1,0', 1],
    ]),
    new Map([
      ['7,0,41', 3],
      ['7,0,42', 1],
      ['7,1,60', 2],
      ['0,0,10', 4],
      ['1,0,10', 1],
    ]),
  );
  t.deepEqual([...totals.keys()], [7, 1]);
  const { minor, major } = totals.get(7) ?? t.fail('absent');
  t.deepEqual([minor.latencyCount, minor.latencySumNs], [4, 5000]);
  t.deepEqual(slotsOf(minor), { 41: 3, 42: 1 });
  t.deepEqual([major.latencyCount, major.latencySumNs], [2, 90_000]);
  t.deepEqual(slotsOf(major), { 60: 2 });
  t.deepEqual(slotsOf(totals.get(1)?.minor ?? t.fail('absent')), { 10: 5 });
  t.is(totals.get(1)?.minor.latencySumNs, 11);
});

test('who has had a fault since the last reading is answered, and whose cgroup is none of those that are asked for', t => {
  const { context, print } = scene();
  const probe = startFaultsScript(context, [0]);
  const of = new Set([7, 8]);
  print('sum', { '7,0': 100, '8,0': 50, '9,1': 7 });
  print('latency', { '7,0,30': 1, '8,0,20': 1, '9,1,9': 1 });
  const first = probe.readChanged(of);
  t.deepEqual([...first.changed.keys()], [7, 8]);
  t.deepEqual([...first.others], [9]);
  print('sum', { '7,0': 100, '8,0': 80 });
  print('latency', { '7,0,30': 1, '8,0,20': 2 });
  const second = probe.readChanged(of);
  t.deepEqual([...second.changed.keys()], [8]);
  t.is(second.changed.get(8)?.minor.latencyCount, 2);
  t.is(probe.readTotals().size, 3);
  t.deepEqual(probe.lost(), losses);
});

test('what is forgotten is answered a last time, and counts from 0 when it comes again', t => {
  const { context, print } = scene();
  const probe = startFaultsScript(context, [0]);
  print('sum', { '7,0': 100, '77,0': 3, '0,0': 2 });
  print('latency', { '7,0,30': 1, '77,0,2': 1, '0,0,1': 1 });
  const last = probe.forget([7, 1, 12]);
  t.deepEqual([...last.keys()], [7, 1]);
  t.is(last.get(7)?.minor.latencyCount, 1);
  t.deepEqual([...probe.readTotals().keys()], [77]);
  print('sum', { '7,0': 130 });
  print('latency', { '7,0,30': 1, '7,0,20': 1 });
  const { minor } = probe.readTotals().get(7) ?? t.fail('absent');
  t.deepEqual([minor.latencyCount, minor.latencySumNs], [1, 30]);
  t.is(probe.readChanged(new Set([7])).changed.get(7)?.minor.latencyCount, 1);
});

test('for a CPU that comes online it is begun again, and for one that goes it is not', t => {
  const { context, runs, stopped, print } = scene();
  const probe = startFaultsScript(context, [0, 1]);
  runs[0]?.attached();
  probe.follow([0, 1]);
  probe.follow([0]);
  t.is(runs.length, 1);
  print('sum', { '7,0': 100 });
  print('latency', { '7,0,30': 1 });
  probe.follow([0, 1]);
  t.is(runs.length, 2);
  t.deepEqual(stopped, [runs[0] ?? t.fail('absent')]);
  print('sum', { '7,0': 5 });
  print('latency', { '7,0,9': 1 });
  t.is(probe.readTotals().get(7)?.minor.latencySumNs, 105);
});

test('a kernel without the tracepoints is refused by their name', t => {
  const sys = mkdtempSync(`${tmpdir()}/sculptor-faults-script-`);
  t.teardown(() => rmSync(sys, { recursive: true }));
  mkdirSync(`${sys}/kernel/tracing/events/exceptions/page_fault_user`, { recursive: true });
  const error = t.throws(() => startFaultsScript(scene(sys).context, [0]));
  t.like(error, { code: 'KERNEL_MISSING' });
  t.regex(error?.message ?? '', /no tracepoint exceptions:page_fault_kernel$/);
});

const source = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

/** What bpf/faults.bt computes of a latency, by its own constants. */
function slotByScript(ns: bigint, [fifths = 0n, ...quarters]: readonly bigint[]): number {
  const at = (ns >> 40n === 0n ? ns : 1n << 40n) << 21n;
  const units = at === 0n ? 0n : (at - 1n) / fifths;
  const octave = units === 0n ? 0 : units.toString(2).length - 1;
  const more = quarters.filter(bound => at > bound >> BigInt(40 - octave)).length;
  return Math.min(159, 4 * octave + more);
}

test("at the bounds of every slot the script's arithmetic is that of the table of bpf/include/latency_bounds.h", t => {
  const bounds = [...source('bpf/include/latency_bounds.h').matchAll(/(\d+)ULL/g)].map(
    ([, bound]) => BigInt(bound ?? 0),
  );
  t.is(bounds.length, 160);
  const script = source('bpf/faults.bt');
  const constants = [...script.matchAll(/\) \/ (\d+);|\(uint64\)(\d{10,})/g)].map(([, a, b]) =>
    BigInt(a ?? b ?? 0),
  );
  t.is(constants.length, 4);
  const byTable = (ns: bigint) => {
    const slot = bounds.findIndex(bound => ns <= bound);
    return slot < 0 ? 159 : slot;
  };
  const wrong = bounds
    .flatMap(bound => [bound - 1n, bound, bound + 1n, bound * 3n])
    .filter(ns => slotByScript(ns, constants) !== byTable(ns));
  t.deepEqual(wrong, []);
});
