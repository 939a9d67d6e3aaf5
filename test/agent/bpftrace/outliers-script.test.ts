import { readFileSync } from 'node:fs';
import test from 'ava';
import { forKernel, parseOutlier } from '../../../src/agent/bpftrace/outliers-script.ts';
import { parseLine } from '../../../src/agent/bpftrace/output.ts';
import { nsPerTick } from '../../../src/linux/own-masks.ts';

const hexOf = (name: string | Buffer): string =>
  Buffer.concat([Buffer.from(name), Buffer.alloc(16)])
    .subarray(0, 16)
    .toString('hex')
    .replaceAll(/(..)(?!$)/g, '$1 ');

const idsOf = (tid: number, tgid: number): bigint => (BigInt(tid) << 32n) + BigInt(tgid);

const stack =
  '\n\tffffffff81399b71 __traceiter_sched_switch+65\n\tffffffff821f8b58 __schedule+1560\n\tffffffff821f94c3 schedule+35\n';

/** A line as the script prints it. */
function lineOf({
  name = 'spin' as string | Buffer,
  began = 0,
  kthread = 0,
  waker = `7;${idsOf(8, 9)}`,
  preemptor = `0;${idsOf(12, 12)};${hexOf('hog')}`,
} = {}): string {
  const of = [25_000, 12_000, 500, 3 * nsPerTick + 1, began + kthread, 1].join(';');
  return `${of};0;${idsOf(40, 39)};${hexOf(name)};${waker};${hexOf('w"a,k')};${preemptor};${stack}`;
}

test('a line of the script is the wait that it tells', t => {
  t.deepEqual(parseOutlier(lineOf()), {
    endedNs: 25_000,
    latencyNs: 12_000,
    throttledNs: 500,
    startTicks: 3,
    // 0 is an autogroup, which the root's tasks may be in.
    waiter: { cgroupId: 1, tid: 40, tgid: 39, name: 'spin' },
    began: 'woken',
    waker: { cgroupId: 7, tid: 8, tgid: 9, name: 'w"a,k' },
    preemptor: { cgroupId: 1, tid: 12, tgid: 12, name: 'hog' },
    cpu: 1,
    stack: [0xffffffff821f8b58n, 0xffffffff821f94c3n],
  });
});

test('who was preempted or held back has no waker, nor who continues an interrupt, nor whom one woke', t => {
  t.like(parseOutlier(lineOf({ began: 1 })), { began: 'preempted', waker: null });
  t.like(parseOutlier(lineOf({ began: 2 })), { began: 'throttled', waker: null });
  t.is(parseOutlier(lineOf({ waker: '0;0' }))?.waker, null);
  for (const name of ['ksoftirqd/1', 'irq/24-eth0']) {
    t.is(parseOutlier(lineOf({ name, kthread: 0x20_0000 }))?.waker, null);
    t.is(parseOutlier(lineOf({ name }))?.waker?.tid, 8, 'whoever calls itself so');
  }
  t.is(parseOutlier(lineOf({ preemptor: `1;0;${hexOf('swapper/1')}` }))?.preemptor, null);
});

for (const [what, name, wanted] of [
  ['quotes, commas and semicolons', 'a";,\\";\'', 'a";,\\";\''],
  ['newlines and tabs', '\n\tffff x+1\n', '\n\tffff x+1\n'],
  ['bytes that are no UTF-8', Buffer.from([0x61, 0xff, 0xc3, 0x62]), 'a\ufffd\ufffdb'],
  ['two bytes for a letter', 'é', 'é'],
  ['fifteen bytes', 'abcdefghijklmno', 'abcdefghijklmno'],
] as const)
  test(`a name with ${what} is that name, and nothing beside it`, t => {
    const record = parseLine(JSON.stringify({ type: 'printf', data: lineOf({ name }) }));
    t.is(record?.type, 'text');
    const outlier = record?.type === 'text' ? parseOutlier(record.text) : null;
    t.is(outlier?.waiter.name, wanted);
    t.like(outlier, { cpu: 1, preemptor: { name: 'hog' } });
    t.is(outlier?.stack.length, 2);
  });

test('what is no such line is none', t => {
  for (const text of [
    '',
    'hello\n',
    lineOf().split(';').slice(0, 15).join(';'),
    lineOf({ began: 3 }),
  ])
    t.is(parseOutlier(text), null, text);
  t.is(parseOutlier(lineOf().replace('25000', 'x')), null);
});

test('the script names no field that the kernel has not', t => {
  const program = readFileSync(new URL('../../../bpf/outliers.bt', import.meta.url), 'utf8');
  const newest = new Set([
    'sched_throttle_work',
    'throttled_clock_self_time',
    'throttled_clock_pelt_time',
    'throttle_count',
  ] as const);
  t.is(forKernel(program, newest), program);
  // 6.12
  const own = forKernel(program, new Set(['throttled_clock_self_time', 'throttle_count'] as const));
  t.notRegex(own, /->throttled\b/);
  t.regex(own, /if \(\$prev->se\.cfs_rq->throttle_count > 0\) \{/);
  t.regex(own, /->throttled_clock_self_time/);
  // 6.1
  const pelt = forKernel(
    program,
    new Set(['throttled_clock_pelt_time', 'throttle_count'] as const),
  );
  t.notRegex(pelt, /->throttled\b|throttled_clock_self|rq->clock\b/);
  t.regex(pelt, /->throttled_clock_pelt_time/);
  t.regex(pelt, /\(uint64\)\(\$queue->rq->clock_pelt - \$queue->rq->lost_idle_time\)/);
  // Without CONFIG_CFS_BANDWIDTH.
  t.notRegex(forKernel(program, new Set()), /->throttle/);
});
