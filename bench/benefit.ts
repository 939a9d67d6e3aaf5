import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { actOnOnset } from '../src/cli/demo/act.ts';
import { untilGivenBack } from '../src/cli/demo/decision.ts';
import { demoPolicy } from '../src/cli/demo/demo.ts';
import { type Loop, startLoop } from '../src/cli/demo/loop.ts';
import { openStage, type Stage } from '../src/cli/demo/stage.ts';
import { runControl, stageTenants, type Tenants } from '../src/cli/demo/tenants.ts';
import { type SettingsWatch, watchSettings } from '../src/cli/demo/watch.ts';
import { SculptorError } from '../src/contract/errors.ts';
import { type BenchResult, median, rawFolder, type Tell, writeRaw } from './bench.ts';
import { type ByHand, byHand, setByHand } from './by-hand.ts';

const rounds = 5;
const phaseSeconds = 3;
const giveBackSeconds = 8;
/** Above this the machine itself is too noisy for a ratio to say anything. */
const quietSeconds = 500e-6;

type Phase = 'alone' | 'before' | 'after' | ByHand;
type Sample = { readonly p99Seconds: number; readonly batchCores: number };
type Round = Readonly<Record<Phase, Sample>> & { readonly mechanism: string };

/** Scene 1 over again: alone, contended, as the loop sculpts it, and the three that one could set by hand, interleaved. */
export async function benchBenefit(tell: Tell): Promise<BenchResult> {
  const folder = rawFolder('benefit');
  const prefix = `sculptor-bench-${process.pid}`;
  const stage = openStage(prefix);
  try {
    const loop = await startLoop(demoPolicy(prefix));
    try {
      const control = await countControlActions(stage, loop, `${folder}/control.tsv`, tell);
      const measured: Round[] = [];
      while (measured.length < rounds) {
        const file = `${folder}/round${measured.length + 1}.tsv`;
        measured.push(await runRound(stage, loop, file, tell));
        tell(`round ${measured.length} of ${rounds}: ${JSON.stringify(measured.at(-1))}`);
      }
      writeFileSync(`${folder}/actions.json`, JSON.stringify(await loop.actions(), null, 2));
      writeRaw(folder, 'rounds.jsonl', measured);
      return { figures: figuresOf(measured, control), targets, overrides: {}, raw: folder };
    } finally {
      await loop.stop();
    }
  } finally {
    await stage.clear();
  }
}

const targets = {
  ratio_before_after: '≥ 10',
  ratio_after_alone: '≤ 1.5',
  batch_cpu_ratio: '≥ 0.9, within 0.03 of the best by hand that reaches after/alone ≤ 1.5',
  control_actions: '0',
};

/** The instances are new in each round: what the engine has learned stays, what it did to them does not count. */
async function runRound(stage: Stage, loop: Loop, rawFile: string, tell: Tell): Promise<Round> {
  const tenants = stageTenants(stage, rawFile);
  const sample = async (phase: Phase): Promise<Sample> => {
    await sleep(1000);
    const { lateness, cores } = await tenants.measure(phase, phaseSeconds);
    return { p99Seconds: lateness?.p99Seconds ?? Number.NaN, batchCores: cores['batch'] ?? 0 };
  };
  try {
    const alone = await sample('alone');
    tenants.addBatch(8);
    const before = await sample('before');
    const watch = watchSettings(stage.instances);
    const mechanism = await act(loop, tenants, watch, tell);
    const after = await sample('after');
    await loop.stamp('observe');
    await untilGivenBack(watch, giveBackSeconds);
    const set = {} as Record<ByHand, Sample>;
    for (const name of byHand) {
      const reset = setByHand(stage, tenants, name);
      set[name] = await sample(name);
      reset();
    }
    return { alone, before, after, ...set, mechanism };
  } finally {
    for (const instance of [...stage.instances]) await stage.remove(instance);
  }
}

/** What was kept, in words. One that was not kept spoils the figure, and not the whole benchmark. */
async function act(
  loop: Loop,
  { batch }: Tenants,
  watch: SettingsWatch,
  tell: Tell,
): Promise<string> {
  try {
    const { decision } = await actOnOnset(loop, 'benefit', tell, { noisy: batch, watch });
    const chosen = decision.recommendation.evidence.alternatives.find(each => each.chosen);
    return chosen?.size ?? decision.recommendation.mechanism;
  } catch (error) {
    if (!(error instanceof SculptorError)) throw error;
    tell(`benefit: ${error.message}`);
    return `none (${error.message})`;
  }
}

/** Nothing is wrong beside one batch instance; answers how often the loop acted all the same. */
async function countControlActions(
  stage: Stage,
  loop: Loop,
  rawFile: string,
  tell: Tell,
): Promise<number> {
  try {
    const { actions } = await runControl(loop, stageTenants(stage, rawFile), tell);
    return actions;
  } finally {
    for (const instance of [...stage.instances]) await stage.remove(instance);
  }
}

function figuresOf(measured: readonly Round[], controlActions: number) {
  const p99 = (phase: Phase) => median(measured.map(round => round[phase].p99Seconds));
  const batch = (phase: Phase) =>
    median(measured.map(round => round[phase].batchCores / round.before.batchCores));
  const setFigures = (phase: ByHand) => ({ p99_s: p99(phase), batch_cpu_ratio: batch(phase) });
  const alone = p99('alone');
  return {
    p99_alone_s: alone,
    p99_before_s: p99('before'),
    p99_after_s: p99('after'),
    ratio_before_after: p99('before') / p99('after'),
    ratio_after_alone: p99('after') / alone,
    batch_cpu_ratio: batch('after'),
    mechanism: [...new Set(measured.map(round => round.mechanism))].join(', '),
    weight: setFigures('weight'),
    idle: setFigures('idle'),
    pinned: setFigures('pinned'),
    control_actions: controlActions,
    rounds: measured.length,
    conclusive: alone <= quietSeconds,
    ...(alone > quietSeconds
      ? {
          why: `p99 alone is ${(alone * 1e6).toFixed(0)} µs; above 500 µs the machine is too noisy`,
        }
      : {}),
  };
}
