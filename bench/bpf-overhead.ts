import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { schedPrograms } from '../src/agent/probes/sched.ts';
import { openStage } from '../src/cli/demo/stage.ts';
import { SculptorError } from '../src/contract/errors.ts';
import { readCgroupLayout } from '../src/linux/cgroups.ts';
import { loadNative, loadProbe } from '../src/linux/native.ts';
import { readText } from '../src/linux/read-file.ts';
import { hostRoots } from '../src/linux/roots.ts';
import { type BenchResult, median, rawFolder, type Tell, writeRaw } from './bench.ts';
import { countRuns } from './count-runs.ts';

const rounds = 5;
const seconds = 2;
const runqlat = '/usr/sbin/runqlat';

/** What is measured, one after another in each round. */
type Subject = 'empty' | 'runqlat' | 'runqueue' | 'all';
/** Runs and ns by hook, since the programs were attached. */
type Cost = Record<string, { runs: number; runNs: number }>;
type Round = Record<Subject, Cost>;

const targets = {
  ratio_vs_runqlat: '≤ 0.8',
  ratio_all_scheduler_probes: '≤ 1.6',
  programs: 'each < 600 ns net of an empty one',
};

/**
 * What the scheduler's programs cost by the kernel's own account (bpf_stats), net of an empty program on the same hook, against
 * Debian's `runqlat -P` under the same load, taking turns.
 */
export async function benchBpfOverhead(tell: Tell): Promise<BenchResult> {
  if (!existsSync(runqlat))
    throw new SculptorError('DEMO_FAILED', `${runqlat} is not there: apt-get install libbpf-tools`);
  const folder = rawFolder('bpf-overhead');
  const stage = openStage(`sculptor-bench-${process.pid}`);
  const counting = await countRuns();
  try {
    // Wake-ups of many tasks, two that never sleep, and two that move: both kinds of switches, and migrations.
    for (let i = 0; i < 8; i += 1) {
      const instance = stage.make(`waker${i}`);
      for (let n = 0; n < 4; n += 1)
        stage.run(instance, 'latency', '--period-us', '400', '--burn-us', '20');
    }
    stage.run(stage.make('spinner'), 'spin', '--threads', '2');
    for (let n = 0; n < 2; n += 1) stage.run(stage.make(`hopper${n}`), 'hop', '--period-us', '500');
    await stage.ready();
    await sleep(500);
    const measured: Round[] = [];
    let left = rounds;
    while (measured.length < rounds) {
      const round = {
        empty: await costOf('empty', ['empty_switch', 'empty_wakeup', 'empty_migrate_task'], {}),
        runqlat: await costOfRunqlat(),
        runqueue: await costOf('sched', schedPrograms.slice(0, 3), {
          only_latency: true,
          with_preemptors: false,
        }),
        all: await costOf('sched', schedPrograms, {}),
      };
      // Now and then runqlat takes longer to start than it is given: its programs are not there, or have not run.
      if (!round.runqlat['switch']?.runs || !round.runqlat['wakeup']?.runs) {
        tell('runqlat was not attached in time: the round is left out');
        left -= 1;
        if (left > 0) continue;
        throw new SculptorError('DEMO_FAILED', `${runqlat} was never attached in time`);
      }
      measured.push(round);
      tell(`round ${measured.length} of ${rounds}: ${JSON.stringify(netOf(round))}`);
    }
    writeRaw(folder, 'rounds.jsonl', measured);
    return { figures: figuresOf(measured), targets, overrides: {}, raw: folder };
  } finally {
    await counting.stop();
    await stage.clear();
  }
}

/** `sched_switch`, `empty_switch` → `switch`: programs on the same hook have the same name. */
function hookOf(program: string): string {
  return program.replace(/^(sched|empty)_/, '').replace('wakeup_new', 'wakeup');
}

function byHook(programs: Iterable<readonly [string, { runs: number; runNs: number }]>): Cost {
  const cost: Cost = {};
  for (const [name, { runs, runNs }] of programs) {
    const sum = cost[hookOf(name)] ?? { runs: 0, runNs: 0 };
    cost[hookOf(name)] = { runs: sum.runs + runs, runNs: sum.runNs + runNs };
  }
  return cost;
}

async function costOf(
  probe: string,
  programs: readonly string[],
  constants: Record<string, boolean>,
): Promise<Cost> {
  const v1 = readCgroupLayout(hostRoots).version === 1;
  const object = loadProbe(loadNative(), probe, {
    constants: probe === 'sched' ? { cgroup_v1: v1, ...constants } : {},
  });
  try {
    for (const program of programs) object.attach(program);
    await sleep(seconds * 1000);
    const stats = object.programStats();
    return byHook(programs.map(name => [name, stats[name] ?? { runs: 0, runNs: 0 }] as const));
  } finally {
    object.close();
  }
}

type ShownProgram = { id: number; name?: string; run_cnt?: number; run_time_ns?: number };

/** Ids of the programs that a process holds, by its file descriptors. */
function programsOf(pid: number): Set<number> {
  const folder = `/proc/${pid}/fdinfo`;
  const ids = readdirSync(folder).map(
    fd => /^prog_id:\s+(\d+)$/m.exec(readText(`${folder}/${fd}`) ?? '')?.[1],
  );
  return new Set(ids.filter(id => id !== undefined).map(Number));
}

async function costOfRunqlat(): Promise<Cost> {
  const child = spawn(runqlat, ['-P', '3600'], { stdio: 'ignore' });
  const ended = new Promise(resolve => child.once('exit', resolve));
  try {
    // It is attached when its programs run; what it takes to start is not counted.
    await sleep(seconds * 1000 + 500);
    const shown = JSON.parse(
      execFileSync('/usr/sbin/bpftool', ['prog', 'show', '-j'], { encoding: 'utf8' }),
    ) as ShownProgram[];
    const held = programsOf(child.pid ?? 0);
    const own = shown.filter(each => held.has(each.id));
    return byHook(
      own.map(
        each =>
          [
            (each.name ?? '').replace(/^handle_/, ''),
            { runs: each.run_cnt ?? 0, runNs: each.run_time_ns ?? 0 },
          ] as const,
      ),
    );
  } finally {
    child.kill('SIGINT');
    await ended;
  }
}

/** ns a run, by hook, net of the empty program. */
function netOf(round: Round): Record<Subject, Record<string, number>> {
  const gross = (cost: Cost, hook: string) => {
    const { runs, runNs } = cost[hook] ?? { runs: 0, runNs: 0 };
    return runNs / Math.max(1, runs);
  };
  const net = (subject: Subject) =>
    Object.fromEntries(
      Object.keys(round[subject]).map(hook => [
        hook,
        gross(round[subject], hook) - (subject === 'empty' ? 0 : gross(round.empty, hook)),
      ]),
    );
  return {
    empty: net('empty'),
    runqlat: net('runqlat'),
    runqueue: net('runqueue'),
    all: net('all'),
  };
}

/** ns for one switch and the wake-ups that come with it, by the load's own mix: the same for all that are compared. */
function perSwitch(round: Round, subject: Subject): number {
  const runs = (hook: string) => round.empty[hook]?.runs ?? 0;
  const net = netOf(round)[subject];
  const hooks = Object.keys(net);
  return hooks.reduce((ns, hook) => ns + (net[hook] ?? 0) * runs(hook), 0) / runs('switch');
}

function figuresOf(measured: readonly Round[]) {
  const ratio = (subject: Subject) =>
    median(measured.map(round => perSwitch(round, subject) / perSwitch(round, 'runqlat')));
  const net = (subject: Subject, hook: string) =>
    median(measured.map(round => netOf(round)[subject][hook] ?? Number.NaN));
  const hooks = ['switch', 'wakeup', 'migrate_task'];
  const of = (subject: Subject, wanted: readonly string[]) =>
    Object.fromEntries(wanted.map(hook => [hook, Math.round(net(subject, hook))]));
  return {
    ratio_vs_runqlat: ratio('runqueue'),
    ratio_all_scheduler_probes: ratio('all'),
    programs: of('all', hooks),
    runqueue_programs: of('runqueue', hooks.slice(0, 2)),
    runqlat_programs: of('runqlat', hooks.slice(0, 2)),
    empty_programs_gross: of('empty', hooks),
    switches_per_s: Math.round(
      median(measured.map(round => (round.empty['switch']?.runs ?? 0) / seconds)),
    ),
    wakeups_per_switch: median(
      measured.map(
        round => (round.empty['wakeup']?.runs ?? 0) / (round.empty['switch']?.runs ?? 1),
      ),
    ),
    migrations_per_s: Math.round(
      median(measured.map(round => (round.empty['migrate_task']?.runs ?? 0) / seconds)),
    ),
    rounds: measured.length,
  };
}
