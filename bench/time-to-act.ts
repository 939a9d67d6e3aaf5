import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { signalAll } from '../src/cli/demo/act.ts';
import { untilGivenBack } from '../src/cli/demo/decision.ts';
import { demoPolicy } from '../src/cli/demo/demo.ts';
import { type Loop, startLoop } from '../src/cli/demo/loop.ts';
import { openStage, type Stage } from '../src/cli/demo/stage.ts';
import { stageTenants } from '../src/cli/demo/tenants.ts';
import { watchSettings } from '../src/cli/demo/watch.ts';
import { type BenchResult, median, quantile, rawFolder, type Tell, writeRaw } from './bench.ts';
import { type ThreadsRound, timeThousandThreads } from './thousand-threads.ts';

const onsets = 20;
const threadRounds = 7;
const applySeconds = 15;
const giveBackSeconds = 8;

/** `early`: it had acted before the onset, which says nothing of the time. `missed`: nothing within `applySeconds`, which then counts. */
type Onset = {
  readonly onsetToAppliedSeconds: number;
  readonly givenBackSeconds: number;
  readonly early: boolean;
  readonly missed: boolean;
};

/** How long from contention to the first changed kernel setting, and how long it takes to move a thousand threads. */
export async function benchTimeToAct(tell: Tell): Promise<BenchResult> {
  const folder = rawFolder('time-to-act');
  const prefix = `sculptor-bench-${process.pid}`;
  const stage = openStage(prefix);
  try {
    const threads = await timeThousandThreads(stage, threadRounds, folder, tell);
    const measured = await timeOnsets(stage, prefix, folder, tell);
    writeRaw(folder, 'onsets.jsonl', measured);
    writeRaw(folder, 'threads.jsonl', threads);
    return {
      figures: figuresOf(measured, threads),
      targets: {
        onset_to_applied_p95_s: '≤ 1',
        apply_1000_threads_s: '≤ 0.010',
        action_1000_threads_s: '≤ 0.1',
        rollback_s: '≤ 1',
      },
      overrides: {
        'sculptor.policy.limits.actionsPerInstancePerHour':
          '3600 instead of 12: every onset is an action of the same instance',
      },
      raw: folder,
    };
  } finally {
    await stage.clear();
  }
}

function figuresOf(measured: readonly Onset[], threads: readonly ThreadsRound[]) {
  const times = measured
    .filter(({ early }) => !early)
    .map(({ onsetToAppliedSeconds }) => onsetToAppliedSeconds);
  const of = (key: keyof ThreadsRound) => median(threads.map(each => each[key]));
  return {
    onset_to_applied_p50_s: quantile(times, 0.5),
    onset_to_applied_p95_s: quantile(times, 0.95),
    onset_to_applied_max_s: Math.max(...times),
    apply_1000_threads_s: of('applySeconds'),
    action_1000_threads_s: of('actionSeconds'),
    rollback_s: of('rollbackSeconds'),
    mode_to_given_back_p95_s: quantile(
      measured.map(each => each.givenBackSeconds),
      0.95,
    ),
    onsets: times.length,
    missed: measured.filter(({ missed }) => missed).length,
    acted_before_onset: measured.filter(({ early }) => early).length,
    rounds_1000_threads: threads.length,
  };
}

async function timeOnsets(
  stage: Stage,
  prefix: string,
  folder: string,
  tell: Tell,
): Promise<Onset[]> {
  tell('starting the loop');
  const policy = { ...demoPolicy(prefix), limits: { actionsPerInstancePerHour: 3600 } };
  const tenants = stageTenants(stage, `${folder}/lateness.tsv`);
  const loop = await startLoop(policy);
  try {
    tenants.addBatch(8);
    signalAll(tenants.batch, 'SIGSTOP');
    const measured: Onset[] = [];
    for (let tried = 0; countOf(measured) < onsets && tried < 2 * onsets; tried += 1) {
      const onset = await timeOnset(loop, stage, tenants.batch);
      measured.push(onset);
      tell(`onset ${countOf(measured)} of ${onsets}: ${JSON.stringify(onset)}`);
    }
    writeFileSync(`${folder}/actions.json`, JSON.stringify(await loop.actions(), null, 2));
    return measured;
  } finally {
    await loop.stop();
  }
}

function countOf(measured: readonly Onset[]): number {
  return measured.filter(({ early }) => !early).length;
}

/** Calm, then contention; the stamp takes back what was done. Batch is held before that, so that nobody is refused. */
async function timeOnset(
  loop: Loop,
  stage: Stage,
  batch: Parameters<typeof signalAll>[0],
): Promise<Onset> {
  const watch = watchSettings(stage.instances);
  await loop.stamp('enforce');
  // At no fixed phase of the agent's and the engine's own intervals.
  await sleep(3000 + Math.random() * 1000);
  const early = watch.changed().length > 0;
  const began = performance.now();
  signalAll(batch, 'SIGCONT');
  const applied = await watch.firstChange(applySeconds, 2);
  await sleep(500);
  signalAll(batch, 'SIGSTOP');
  const fell = performance.now();
  await loop.stamp('observe');
  await untilGivenBack(watch, giveBackSeconds);
  return {
    onsetToAppliedSeconds: applied === null ? applySeconds : (applied - began) / 1000,
    early,
    missed: applied === null,
    givenBackSeconds: (performance.now() - fell) / 1000,
  };
}
