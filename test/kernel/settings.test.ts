import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import ava from 'ava';
import type { AgentSettings } from '../../src/contract/agent-settings.ts';
import { profileSchema } from '../../src/contract/profile.ts';
import type { MetricPoint } from '../../src/contract/telemetry.ts';
import { loadNative } from '../../src/linux/native.ts';
import { needs } from '../support/needs.ts';
import { eventually, stageScene } from '../support/scene.ts';
import { stolenSeconds } from '../support/stolen.ts';
import { shareTold } from '../support/told-agent.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
const shared = shareTold();
ava.after.always(shared.stop);

/** One after another, each while the workload runs; nothing of what went before is undone unless said. */
const changes: readonly Partial<AgentSettings>[] = [
  { profile: 'minimal', readIntervalSeconds: 0.1 },
  { histograms: 'explicit-fine', headlineIntervalSeconds: 0.5 },
  { profile: 'full', hotTasks: 0, histograms: 'exponential' },
  { fastInstances: 0 },
  { metrics: { include: [], exclude: ['sculptor.memory.*', 'sculptor.cpu.migrations'] } },
  // The last of them, since what comes after is waited for by its intervals.
  { hotTasks: 5, readIntervalSeconds: 0.5, headlineIntervalSeconds: 2, detailIntervalSeconds: 2 },
  {
    profile: 'default',
    metrics: { include: [], exclude: [] },
    histograms: 'explicit',
    fastInstances: 20,
    readIntervalSeconds: 0.2,
    headlineIntervalSeconds: 1,
    detailIntervalSeconds: 1,
  },
];

test('everything changes while a workload runs: no count falls, no start moves, and the totals are what the kernel says', async t => {
  t.timeout(60_000);
  const told = await shared.told();
  const scene = stageScene('sculptor-settings');
  const id = scene.id('pair');
  const stolenBefore = stolenSeconds();
  try {
    const spinners = [scene.spawn('pair', 'spin'), scene.spawn('pair', 'spin')];
    const pids = spinners.map(({ pid }) => pid ?? 0);
    loadNative().setAffinity(Int32Array.from(pids), Int32Array.of(0));
    await eventually('details', 5, () => told.pointsOf('sculptor.cpu.wakeups', id)[1]);
    const attached = bpfLinks();
    const uncounted = () =>
      told.pointsOf('sculptor.agent.instances.uncounted', 'test-host').at(-1)?.value;
    for (const change of changes) {
      told.agent.change({ ...told.agent.settings(), ...change });
      if (change.profile === 'full')
        t.true(bpfLinks() > attached, 'what only the largest profile has is attached');
      if (change.profile === 'minimal') {
        t.is(told.agent.status().sources['faults'], 'not selected');
        t.true(bpfLinks() < attached, 'what is not selected is detached');
      }
      // Whatever else the machine does: each holds until something was told by it.
      const shape = shapes[told.agent.settings().histograms];
      const since = Date.now() / 1000;
      await eventually(`details as ${shape}`, 10, () => {
        const latency = told.pointsOf('sculptor.runqueue.latency', id).at(-1);
        return latency && latency.time > since && shapeOf(latency.value) === shape ? latency : null;
      });
      if (change.fastInstances === 0)
        await eventually('that it is contended, and has no faster series', 10, () =>
          Number(uncounted()) >= 1 ? true : null,
        );
    }
    t.is(bpfLinks(), attached);
    t.is(uncounted(), 0);

    // The kernel's own account, before and after one more reading.
    const before = schedstat(pids);
    const point = await eventually('a point', 5, () =>
      told.pointsOf('container.cpu.time', id).findLast(({ time }) => time > before.at),
    );
    const wait = told
      .pointsOf('sculptor.runqueue.wait', id)
      .find(({ time }) => time === point.time);
    const after = schedstat(pids);
    const between = (what: string, value: number, from: number, to: number) =>
      t.true(value > from - 0.03 && value < to + 0.03, `${what}: ${value} in ${from} … ${to}`);
    const stolen = stolenSeconds() - stolenBefore;
    between('run', Number(point.value), before.run, after.run + stolen);
    between('wait', Number(wait?.value), before.wait, after.wait);

    const points = told.allPointsOf(id);
    for (const series of bySeries(points).values()) {
      const restarted = ofStoppedSources.test(series[0]?.metric ?? '');
      const starts = new Set(series.map(({ start }) => start));
      const name = JSON.stringify([series[0]?.metric, series[0]?.attributes]);
      t.true(starts.size === 1 || restarted, `${name} has ${starts.size} starts`);
      for (const [i, { start, value }] of series.entries()) {
        const last = series[i - 1];
        if (last?.start === start)
          t.true(countOf(value) >= countOf(last.value), `${name} fell: ${i} of ${series.length}`);
      }
    }
    const headlines = told.pointsOf('container.cpu.time', id).map(({ time }) => time);
    const gaps = headlines.map((time, i) => time - (headlines[i - 1] ?? time));
    t.true(Math.max(...gaps) < 3, `no gap above its interval: ${Math.max(...gaps)} s`);
    const latencies = told.pointsOf('sculptor.runqueue.latency', id).map(({ value }) => value);
    t.deepEqual([...new Set(latencies.map(shapeOf))], ['25', '97', 'exponential']);
    const { failed_reads, sched_failed_reads, faults_failed_reads, instance_map_full } =
      told.agent.status().lost;
    t.deepEqual(
      [failed_reads, sched_failed_reads, faults_failed_reads, instance_map_full],
      [0, 0, 0, 0],
    );
  } finally {
    await scene.end();
  }
});

test('the profile of an instance has the numbers that were exported for the same reading', async t => {
  t.timeout(60_000);
  const told = await shared.told();
  told.agent.change({ ...told.agent.settings(), profileWindowSeconds: 2 });
  const scene = stageScene('sculptor-profile');
  const id = scene.id('pair');
  try {
    scene.spawn('pair', 'spin', '--threads', '4');
    const profile = await eventually('a whole window', 8, () => {
      const one = told.agent.profiles.of(id);
      return one && told.pointsOf('sculptor.cpu.wakeups', id).length > 3 ? one : null;
    });
    profileSchema.parse(profile);
    const exported = await eventually('the same reading', 5, () => {
      const points = told
        .allPointsOf(id)
        .filter(({ time }) => Math.abs(time - profile.time) < 1e-3);
      return points.length >= profile.series.length ? points : null;
    });
    const numbers = (of: readonly (readonly [string, unknown, number])[]) =>
      of.map(([metric, attributes, value]) => JSON.stringify([metric, attributes, value])).sort();
    t.deepEqual(
      numbers(
        profile.series.map(series => [
          series.metric,
          series.attributes,
          series.type === 'gauge'
            ? series.value
            : series.type === 'counter'
              ? series.total
              : series.total.count,
        ]),
      ),
      numbers(
        exported.map(({ metric, attributes, value }) => [metric, attributes, countOf(value)]),
      ),
    );
    const latency = profile.series.find(({ metric }) => metric === 'sculptor.runqueue.latency');
    const window = latency?.type === 'histogram' ? latency.delta : null;
    t.true(window !== null && window.count > 10 && Number(window.p50) <= Number(window.p99));
    const run = profile.series.find(({ metric }) => metric === 'container.cpu.time');
    const wait = profile.series.find(({ metric }) => metric === 'sculptor.runqueue.wait');
    const cores = [run, wait].map(one => (one?.type === 'counter' ? (one.perSecond ?? 0) : 0));
    const all = (cores[0] ?? 0) + (cores[1] ?? 0);
    t.true(Math.abs(all - 4) < 0.2, `${all} cores used or waited for by four spinners`);
  } finally {
    await scene.end();
  }
});

/** Of each resolution, what `shapeOf` says. */
const shapes = { explicit: '25', 'explicit-fine': '97', exponential: 'exponential' };

/** Their metrics begin anew when they were not selected for a while. */
const ofStoppedSources =
  /^sculptor\.(memory|pressure|disk|network)\.|^container\.(memory|network)\./;

function bySeries(points: readonly MetricPoint[]): Map<string, MetricPoint[]> {
  const counters = points.filter(({ type }) => type !== 'gauge');
  return Map.groupBy(counters, ({ metric, attributes }) => {
    const { 'thread.name': _, ...rest } = attributes;
    return JSON.stringify([metric, rest]);
  });
}

function countOf(value: MetricPoint['value']): number {
  return typeof value === 'number' ? value : value.count;
}

function shapeOf(value: MetricPoint['value']): string {
  if (typeof value === 'number') return 'number';
  return value.kind === 'explicit' ? String(value.bounds.length) : value.kind;
}

/** BPF programs that this process has attached, by its file descriptors. */
function bpfLinks(): number {
  return readdirSync('/proc/self/fd').filter(file => {
    try {
      return /bpf_link|perf_event/.test(readlinkSync(`/proc/self/fd/${file}`));
    } catch {
      // The descriptor by which the folder was read.
      return false;
    }
  }).length;
}

/** What the kernel says that these threads ran and waited, s, as of `at` (seconds since the epoch). */
function schedstat(pids: readonly number[]): { at: number; run: number; wait: number } {
  let [run, wait] = [0, 0];
  for (const pid of pids) {
    const [ran = 0, waited = 0] = readFileSync(`/proc/${pid}/schedstat`, 'utf8')
      .split(' ')
      .map(Number);
    run += ran / 1e9;
    wait += waited / 1e9;
  }
  return { at: Date.now() / 1000, run, wait };
}
