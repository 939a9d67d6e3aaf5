import { setTimeout as pause } from 'node:timers/promises';
import ava, { type ExecutionContext } from 'ava';
import { startOutliersScript } from '../../src/agent/bpftrace/outliers-script.ts';
import { runBpftrace } from '../../src/agent/bpftrace/run.ts';
import {
  type OutlierProbe,
  type RawOutlier,
  startOutlierProbe,
} from '../../src/agent/probes/outliers.ts';
import { realClock } from '../../src/cli/clock.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { cpuRoot, endAll, makeBox, spin, startPinned, workload } from '../support/sched-scene.ts';
import { startTold } from '../support/told-agent.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus', 'bpftrace', 'tracefs');
ava.afterEach.always(endAll);

type Asked = { readonly aboveSeconds: number; readonly perInstancePerSecond: number };

/** bpf/outliers.bt, attached. */
async function startScript(t: ExecutionContext, asked: Asked): Promise<OutlierProbe> {
  const script = startOutliersScript(
    { run: runBpftrace, cgroupV1: true, roots: hostRoots, clock: realClock, say: () => undefined },
    asked,
  );
  t.teardown(script.stop);
  t.is(await script.attached, null);
  return script;
}

test('long waits by libbpf and bpftrace are the same, by whom, how they began, and of which length', async t => {
  t.timeout(90_000);
  const boxes = [makeBox('usual'), makeBox('usual'), makeBox('usual'), makeBox('usual')] as const;
  const [crowd, relay, timed, quota] = boxes;
  for (let i = 0; i < 3; i += 1) await startPinned(crowd, 1, ...spin);
  // Who has the lock wakes the next; of so little weight that whoever is woken waits.
  relay.write('cpu.shares', '10');
  await startPinned(relay, 1, workload, 'convoy', '--threads', '4');
  await startPinned(timed, 1, workload, 'latency', '--period-us', '20000', '--burn-us', '2000');
  await startPinned(quota, 1, ...spin);
  quota.write('cpu.shares', '102');
  quota.write('cpu.cfs_quota_us', '1000');
  const asked = { aboveSeconds: 0.001, perInstancePerSecond: 1000 };
  const script = await startScript(t, asked);
  const libbpf = startOutlierProbe({ native: loadNative(), cgroupV1: true, ...asked });
  t.teardown(libbpf.stop);
  // Each task has been seen on a CPU by then.
  await pause(2000);
  const from = Number(process.hrtime.bigint());
  const all: { libbpf: RawOutlier[]; script: RawOutlier[] } = { libbpf: [], script: [] };
  for (let i = 0; i < 16; i += 1) {
    await pause(500);
    all.libbpf.push(...libbpf.take());
    all.script.push(...script.take());
  }
  const to = Number(process.hrtime.bigint()) - 0.5e9;
  const ids = new Set(boxes.map(({ id }) => id));
  const inside = (told: readonly RawOutlier[]) =>
    told.filter(
      ({ waiter, endedNs, latencyNs, throttledNs }) =>
        ids.has(waiter.cgroupId) && endedNs - latencyNs - throttledNs > from && endedNs < to,
    );
  const same = (a: RawOutlier, b: RawOutlier) =>
    a.waiter.tid === b.waiter.tid && Math.abs(a.endedNs - b.endedNs) < 1e6;
  /** So near the threshold that it may be on either side of it. */
  const isEdge = ({ latencyNs }: RawOutlier) => latencyNs < asked.aboveSeconds * 1e9 + 20_000;
  const [byLibbpf, byScript] = [inside(all.libbpf), inside(all.script)];
  const pairs = byLibbpf.flatMap(a => {
    const b = byScript.find(each => same(a, each));
    return b ? [[a, b] as const] : [];
  });
  const alone = {
    libbpf: byLibbpf.filter(a => !isEdge(a) && !byScript.some(b => same(a, b))),
    script: byScript.filter(b => !isEdge(b) && !byLibbpf.some(a => same(a, b))),
  };
  const differ = pairs.filter(
    ([a, b]) =>
      Math.abs(a.latencyNs - b.latencyNs) > Math.max(20_000, 0.02 * a.latencyNs) ||
      a.began !== b.began ||
      a.waker?.tid !== b.waker?.tid ||
      a.waker?.cgroupId !== b.waker?.cgroupId ||
      a.preemptor?.tid !== b.preemptor?.tid ||
      Math.abs(a.throttledNs - b.throttledNs) > Math.max(20_000, 0.02 * a.throttledNs),
  );
  const kinds = Object.fromEntries(
    ['woken', 'preempted', 'throttled'].map(way => [
      way,
      pairs.filter(([{ began }]) => began === way).length,
    ]),
  );
  const wakers = pairs.filter(([{ waker }]) => waker).length;
  t.log(
    JSON.stringify({
      pairs: pairs.length,
      kinds,
      wakers,
      alone: [alone.libbpf.length, alone.script.length],
      differ: differ.length,
      counts: [libbpf.counts(), script.counts()],
    }),
  );
  for (const each of [
    ...alone.libbpf.slice(0, 3),
    ...alone.script.slice(0, 3),
    ...differ.slice(0, 4).flat(),
  ])
    t.log(JSON.stringify({ ...each, stack: each.stack.length }));
  t.true(pairs.length > 500);
  t.true(
    Object.values(kinds).every(count => count > 0) && wakers > 5 && wakers < (kinds['woken'] ?? 0),
  );
  // A program that was interrupted by another hook of a script is left out by the kernel.
  t.true(alone.libbpf.length + alone.script.length + differ.length <= 0.005 * pairs.length);
  for (const [a, b] of pairs) {
    t.is(b.startTicks, a.startTicks);
    t.deepEqual(b.waiter, a.waiter);
    t.is(b.cpu, a.cpu);
    t.true(b.stack.some(address => a.stack.includes(address)));
  }
  const { full, memory, limited } = script.counts();
  t.deepEqual({ full, memory, limited }, { full: 0, memory: 0, limited: 0 });
});

test('past what an instance may tell in a second the script counts', async t => {
  t.timeout(60_000);
  const box = makeBox('most');
  for (let i = 0; i < 4; i += 1) await startPinned(box, 1, ...spin);
  const script = await startScript(t, { aboveSeconds: 0.001, perInstancePerSecond: 3 });
  await pause(4000);
  await endAll();
  // The maps are printed each second.
  await pause(1500);
  const told = script.take();
  const ofBox = told.filter(({ waiter }) => waiter.cgroupId === box.id);
  const bySecond = [...Map.groupBy(ofBox, ({ endedNs }) => Math.floor(endedNs / 1e9)).values()];
  t.log(JSON.stringify({ seconds: bySecond.map(({ length }) => length), ...script.counts() }));
  t.true(bySecond.length >= 4);
  t.true(
    bySecond.every(({ length }) => length <= 3) && bySecond.some(({ length }) => length === 3),
  );
  const { found, limited, full } = script.counts();
  t.true(limited > 100);
  t.is(full, 0);
  t.true(Math.abs(found - limited - told.length) <= 3, `${found} ${limited} ${told.length}`);
});

test('driver: bpftrace: a running agent tells long waits while somebody asks, past the threshold that is asked for', async t => {
  t.timeout(90_000);
  const told = await startTold({ driver: 'bpftrace', detailIntervalSeconds: 1 });
  t.teardown(told.stop);
  const ask = (aboveSeconds: number | null) =>
    told.agent.change({
      ...told.agent.settings(),
      outliers: { aboveSeconds, perInstancePerSecond: 10 },
    });
  const status = () => told.agent.status().sources['outliers'];
  const box = makeBox('most');
  const id = box.folder.slice(cpuRoot.length);
  for (let i = 0; i < 4; i += 1) await startPinned(box, 1, ...spin);
  const ofBox = () => told.outliers().filter(({ task }) => task.instance === id);
  const runs = () =>
    eventually('the script runs', 30, () => (status() === 'running' ? true : null));
  ask(30);
  await eventually('the script is started', 10, () => (status() === 'running' ? null : true));
  await runs();
  await pause(2000);
  t.deepEqual(ofBox(), []);
  ask(0.002);
  const first = await eventually('waits past 2 ms', 30, () =>
    ofBox().length >= 5 ? ofBox() : null,
  );
  for (const { seconds, task, preemptor, began, waker, stack, cpu } of first) {
    t.true(seconds >= 0.002 && seconds < 5, `${seconds}`);
    t.true(task.name.startsWith('sculpt-'));
    t.deepEqual({ began, waker, cpu }, { began: 'preempted', waker: null, cpu: 1 });
    t.not(preemptor, null);
    t.true(stack.includes('__schedule'), stack.join(' '));
  }
  t.true(first.some(({ preemptor }) => preemptor?.instance === id));
  ask(null);
  await pause(1500);
  const count = told.outliers().length;
  await pause(1500);
  t.is(told.outliers().length, count);
  t.is(status(), 'running');
  t.is(told.agent.status().lost['outliers_not_told'], 0);
});
