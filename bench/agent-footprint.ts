import { setTimeout as sleep } from 'node:timers/promises';
import { layout } from '../src/agent/probes/sched-layout.ts';
import { openStage, type Stage } from '../src/cli/demo/stage.ts';
import { metrics } from '../src/contract/metrics.ts';
import { selectMetrics } from '../src/contract/selection.ts';
import {
  type AgentProcess,
  type ProcessReading,
  readPrograms,
  startAgentProcess,
  taskStorageBytes,
} from './agent-process.ts';
import { type BenchResult, rawFolder, type Tell, writeRaw } from './bench.ts';
import { countRuns } from './count-runs.ts';
import { tenThousand as crowd, type Instant, order, quiet, stageCrowd } from './crowd.ts';
import { timeFixedWork } from './fixed-work.ts';
import { type Rollup, rollupOf } from './rollup.ts';
import type { SinkReading } from './sink.ts';

const warmSeconds = 120;
/** One whole interval of placements. */
const shippedSeconds = 60;
const rollupSeconds = 20;
const slowSeconds = 60;
const statsSeconds = 5;

const targets = {
  total_bytes: '≤ 100 MB',
  cpu_cores: '≤ 0.02',
  cpu_cores_slow: '≤ 0.01',
  switches_per_s: '≥ 20000',
  points_per_second: '≤ 2500',
  lost_events: '0',
  rollup_error: '≤ 0.001',
  not_told: 'what this host has not',
};

/**
 * What the agent costs as a process of its own, with the default profile and the shipped rates, beside 10,000 threads in 200
 * instances of which 2,000 wake at Zipf's rates; and whether its totals are those of the threads.
 */
export async function benchAgentFootprint(tell: Tell): Promise<BenchResult> {
  const folder = rawFolder('agent-footprint');
  const stage = openStage(`sculptor-bench-${process.pid}`);
  let agent: AgentProcess | null = null;
  try {
    await stageCrowd(stage, crowd);
    tell(`${crowd.instances} instances with ${crowd.threadsEach} threads each`);
    agent = await startAgentProcess(folder);
    const measured = await measure(stage, agent, tell);
    writeRaw(folder, 'windows.jsonl', [...Object.values(measured.windows), measured.programs]);
    return { figures: figuresOf(measured), targets, overrides: {}, raw: folder };
  } finally {
    await agent?.stop();
    await stage.clear();
  }
}

type Window = {
  readonly name: string;
  readonly seconds: number;
  readonly userCores: number;
  readonly kernelCores: number;
  readonly switchesPerSecond: number;
  readonly pointsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly rollup: Rollup;
  /** What a fixed piece of work took beside it: how fast the machine was. */
  readonly fixedWorkUs: number;
  readonly end: ProcessReading;
};

type Measured = {
  readonly windows: Readonly<Record<'shipped' | 'k10' | 'k1000' | 'slow', Window>>;
  readonly programs: Readonly<Record<string, { runsPerSecond: number; cores: number }>>;
  readonly last: SinkReading;
};

async function measure(stage: Stage, agent: AgentProcess, tell: Tell): Promise<Measured> {
  const window = async (name: string, seconds: number, settings: object): Promise<Window> => {
    await agent.ask.changeAgentSettings({ ...settings });
    const from = await quiet(stage, agent);
    const cpuFrom = await order(stage, 'go', agent);
    const fixedWorkUs = await timeFixedWork(seconds);
    const cpuTo = await order(stage, 'rest', agent);
    const to = await quiet(stage, agent);
    const one = { ...windowOf(name, [cpuFrom, cpuTo], rollupOf(from, to)), fixedWorkUs };
    tell(JSON.stringify(one));
    return one;
  };
  // It runs for months: its start, and what V8 compiles of it as it learns what is hot, is no part of what it costs.
  await order(stage, 'go', agent);
  await sleep(warmSeconds * 1000);
  await order(stage, 'rest', agent);
  const shipped = await window('shipped', shippedSeconds, {});
  const k10 = await window('K = 10', rollupSeconds, { hotTasks: 10 });
  const k1000 = await window('K = 1000', rollupSeconds, { hotTasks: 1000 });
  const slow = await window('slow', slowSeconds, {
    hotTasks: 100,
    headlineIntervalSeconds: 10,
    // They would be told every 200 ms.
    fastInstances: 0,
  });
  await order(stage, 'go', agent);
  const programs = await programCosts(agent.pid);
  return { windows: { shipped, k10, k1000, slow }, programs, last: await agent.received() };
}

function windowOf(
  name: string,
  [from, to]: readonly [Instant, Instant],
  rollup: Rollup,
): Omit<Window, 'fixedWorkUs'> {
  const seconds = to.process.at - from.process.at;
  const rate = (of: (instant: Instant) => number) => (of(to) - of(from)) / seconds;
  return {
    name,
    seconds,
    userCores: rate(({ process }) => process.userSeconds),
    kernelCores: rate(({ process }) => process.kernelSeconds),
    switchesPerSecond: rate(({ switches }) => switches),
    pointsPerSecond: rate(({ sink }) => sink.points),
    bytesPerSecond: rate(({ sink }) => sink.bytes),
    rollup,
    end: to.process,
  };
}

/** The kernel's own account of the agent's programs; apart, since keeping it costs something by itself. */
async function programCosts(pid: number): Promise<Measured['programs']> {
  const counting = await countRuns();
  try {
    const before = readPrograms(pid);
    await sleep(statsSeconds * 1000);
    const costs = [...readPrograms(pid)].map(([name, { runs, runNs }]) => {
      const { runs: runs0, runNs: runNs0 } = before.get(name) ?? { runs: 0, runNs: 0 };
      const cost = {
        runsPerSecond: (runs - runs0) / statsSeconds,
        cores: (runNs - runNs0) / 1e9 / statsSeconds,
      };
      return [name.split(' ')[0] ?? name, cost] as const;
    });
    return Object.fromEntries(costs.filter(([, { runsPerSecond }]) => runsPerSecond > 0));
  } finally {
    await counting.stop();
  }
}

/** Run within the agent's own system calls, and so in its kernel time already. */
const iterators = new Set([
  'flush',
  'read_totals',
  'settle_sleeps',
  'dump',
  'dump_changed',
  'own_masks',
  'charge_sockets',
  'own_sockets',
]);

function figuresOf({ windows, programs, last }: Measured) {
  const { shipped, k10, k1000, slow } = windows;
  const { rssBytes, rssOwnBytes, bpfMapBytes, bpfProgramBytes } = shipped.end;
  const { instances } = crowd;
  const threads = instances * crowd.threadsEach;
  const bpfBytes = bpfMapBytes + bpfProgramBytes + threads * taskStorageBytes;
  const cores = ({ userCores, kernelCores }: Window) => userCores + kernelCores;
  const rollups = [shipped, k10, k1000].map(({ rollup }) => rollup);
  const coresOf = (names: (name: string) => boolean) =>
    Object.entries(programs).reduce((sum, [name, cost]) => sum + (names(name) ? cost.cores : 0), 0);
  return {
    total_bytes: rssBytes + bpfBytes,
    rss_bytes: rssBytes,
    rss_own_bytes: rssOwnBytes,
    bpf_memory_bytes: bpfBytes,
    bpf_maps_bytes: bpfMapBytes,
    cpu_cores: cores(shipped),
    cpu_cores_kernel: shipped.kernelCores,
    cpu_cores_slow: cores(slow),
    fixed_work_us: shipped.fixedWorkUs,
    fixed_work_us_slow: slow.fixedWorkUs,
    bpf_cores: coresOf(name => !iterators.has(name)),
    bpf_cores_iterators: coresOf(name => iterators.has(name)),
    threads,
    instances,
    switches_per_s: shipped.switchesPerSecond,
    points_per_second: shipped.pointsPerSecond,
    bytes_per_second: shipped.bytesPerSecond,
    lost_events: Object.values(last.lost).reduce((sum, n) => sum + n, 0),
    recovered_events: last.recovered,
    lost_withheld: last.lost['withheld_switch'] ?? 0,
    lost_by_reason: Object.fromEntries(Object.entries(last.lost).filter(([, n]) => n > 0)),
    rollup_error: Math.max(...rollups.map(({ switches }) => switches)),
    rollup_error_worst_instance: Math.max(...rollups.map(({ worst }) => worst)),
    run_against_schedstat: Math.max(...rollups.map(({ run }) => run)),
    wait_against_schedstat: Math.max(...rollups.map(({ wait }) => wait)),
    instance_totals_bytes_per_cpu: layout.totals.bytes,
    not_told: notTold(last),
  };
}

/** Metrics of the default profile of which nothing came. */
function notTold({ metrics: told }: SinkReading): string[] {
  const wanted = selectMetrics({ profile: 'default', metrics: { include: [], exclude: [] } });
  return Object.keys(metrics).filter(name => wanted.has(name) && told[name] === undefined);
}
