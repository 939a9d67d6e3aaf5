import type { Realised } from '../contract/action.ts';
import type { SculptorConfig } from '../contract/config.ts';
import type { Policy } from '../contract/policy.ts';
import { coresOf, type HeadlineSeries, type Sample, waitRatios } from './headline-series.ts';
import type { Neighbour } from './neighbours.ts';
import { alphaAtLook, mean, median, studentDifference } from './sequential-test.ts';

export type Verdict = {
  readonly is: 'improved' | 'worse' | 'undecided';
  readonly message: string;
  readonly realised: Realised | null;
};

/** What is measured against: fixed when the action was applied. */
export type Watch = {
  readonly judge: (now: number) => Verdict;
};

/** Baseline of at most this many seconds before the action. */
const baselineSeconds = 30;
/** Samples after the action, and before it where the contention lasted that long, are of about a second. */
const sampleSeconds = 0.95;
/** The fastest series come every 200 ms. */
const fastestSeconds = 0.19;
/** What acted within half a second has not much more of contention to look at: two or three of the fastest samples. */
const freshSeconds = 0.6;
/** A neighbour that waits less than this more than before has lost nothing that could be felt (cores). */
const feltWaitCores = 0.01;

/**
 * Starts to measure an action that was applied at `applied` (seconds since the epoch): the beneficiary's wait ratio
 * wait / (run + wait), and each neighbour's served ratio run / (run + wait), before and after, corrected by what instances
 * that nothing was done to went through (difference in differences). Each look spends its part of alpha, so that looking
 * after every sample does not make chance a verdict; the baseline is the spell of contention that led to the action.
 */
export function startWatch(options: {
  readonly series: HeadlineSeries;
  readonly beneficiary: string;
  readonly neighbours: readonly Neighbour[];
  readonly controls: readonly string[];
  readonly applied: number;
  readonly verify: SculptorConfig['verify'];
  readonly policy: Policy;
}): Watch {
  const { series, applied, verify } = options;
  const onset = contentionOnset(series, options.beneficiary, applied);
  const baseline = (instance: string) => baselineOf(series, instance, onset, applied);
  const before = waitRatios(baseline(options.beneficiary));
  // What was before is worked out once: on a host of many they are all looked at twice a second.
  const neighbours = options.neighbours.map(each => ({
    ...each,
    before: shareOf(baseline(each.instance)),
  }));
  const controls = options.controls.flatMap(instance => {
    const ratios = waitRatios(baseline(instance));
    return ratios.length > 0 ? { instance, before: median(ratios) } : [];
  });
  let look = 0;
  let looked = 0;
  return {
    judge: now => {
      const from = applied + verify.settleSeconds;
      const samples = series.samples(options.beneficiary, from, now, sampleSeconds);
      const shift = controlShift(series, controls, from, now);
      const after = waitRatios(samples).map(ratio => ratio - shift);
      const newest = samples.at(-1)?.to ?? 0;
      if (after.length >= verify.minSamples && newest > looked) {
        look += 1;
        looked = newest;
      }
      const alpha = alphaAtLook(verify.alpha, Math.max(1, look));
      const losses = neighbours.flatMap(neighbour =>
        lossOf(series, neighbour, shift, {
          from,
          now,
          // Each neighbour is a test of its own.
          alpha: alpha / neighbours.length,
          minSamples: verify.minSamples,
        }),
      );
      return verdictOf(options.policy, { before, after, alpha, losses, look });
    },
  };
}

type Loss = {
  readonly instance: string;
  readonly degradationRatio: number;
  readonly limitRatio: number;
  readonly breached: boolean;
};

function verdictOf(
  policy: Policy,
  given: {
    before: readonly number[];
    after: readonly number[];
    alpha: number;
    losses: readonly Loss[];
    look: number;
  },
): Verdict {
  const { before, after, alpha, losses, look } = given;
  const worst = losses.find(loss => loss.breached);
  const test = look > 0 ? studentDifference(before, after, alpha) : null;
  const realised = realisedOf(before, after, test, losses);
  if (worst) {
    const message = `neighbour ${worst.instance} lost ${percent(worst.degradationRatio)} of what it was served; its limit is ${percent(worst.limitRatio)}`;
    return { is: 'worse', message, realised };
  }
  if (!test || !realised) {
    return { is: 'undecided', message: `${after.length} samples after the action`, realised };
  }
  const shown = `wait ratio ${realised.without.toFixed(3)} before, ${realised.with.toFixed(3)} after (${after.length} samples)`;
  if (test.upper < 0)
    return { is: 'worse', message: `the beneficiary waits more: ${shown}`, realised };
  const enough = test.lower > 0 && realised.gainRatio >= policy.minGainRatio;
  return { is: enough ? 'improved' : 'undecided', message: shown, realised };
}

function realisedOf(
  before: readonly number[],
  after: readonly number[],
  test: ReturnType<typeof studentDifference>,
  losses: readonly Loss[],
): Realised | null {
  if (before.length === 0 || after.length === 0) return null;
  const without = median(before);
  const withAction = Math.max(0, median(after));
  // Nothing to gain from, no ratio: the interval is then in the metric itself.
  const ratio = (difference: number) => (without > 0 ? difference / without : difference);
  const gainRatio = ratio(without - withAction);
  return {
    metric: 'sculptor.runqueue.wait.ratio',
    without,
    with: withAction,
    gainRatio,
    interval: test ? [ratio(test.lower), ratio(test.upper)] : [gainRatio, gainRatio],
    samples: after.length,
    neighbours: losses.map(({ instance, degradationRatio, limitRatio }) => ({
      instance,
      degradationRatio,
      limitRatio,
    })),
  };
}

/** What an instance was served, and waited: the ratios of its samples, and over all of them; `served` is null where it did nothing. */
type Share = {
  readonly ratios: readonly number[];
  readonly served: number | null;
  readonly waitCores: number;
};

function shareOf(samples: readonly Sample[]): Share {
  const ratios = waitRatios(samples);
  const served = ratios.length > 0 ? 1 - median(ratios) : null;
  return { ratios, served, waitCores: coresOf(samples).wait };
}

/** Degradation = 1 − served after / served before; breached when its lower bound is past the limit, and it can be felt. */
function lossOf(
  series: HeadlineSeries,
  { instance, limitRatio, windowSeconds, before }: Neighbour & { readonly before: Share },
  shift: number,
  look: { from: number; now: number; alpha: number; minSamples: number },
): Loss[] {
  if (windowSeconds > 0 && look.now - look.from < windowSeconds) return [];
  const from = windowSeconds > 0 ? look.now - windowSeconds : look.from;
  const samples = series.samples(instance, from, look.now, sampleSeconds);
  const after = waitRatios(samples).map(ratio => ratio - shift);
  if (before.served === null || before.served <= 0 || after.length < look.minSamples) return [];
  const degradationRatio = 1 - (1 - median(after)) / before.served;
  const limit = limitRatio * before.served;
  const felt = coresOf(samples).wait - before.waitCores > feltWaitCores;
  // The bound is below the mean: of most neighbours that says enough, and the test costs ten times what all else does.
  const breached =
    felt &&
    mean(after) - mean(before.ratios) > limit &&
    (studentDifference(after, before.ratios, look.alpha)?.lower ?? 0) > limit;
  return [{ instance, degradationRatio, limitRatio, breached }];
}

/**
 * When the present spell of contention began: back from the action until two samples in a row wait less than a quarter of
 * what the newest did. A single one is noise: to stop at it would leave low samples out, and call their return a gain.
 */
function contentionOnset(series: HeadlineSeries, instance: string, applied: number): number {
  const samples = series.samples(instance, applied - baselineSeconds, applied, fastestSeconds);
  const last = waitRatios(samples.filter(sample => sample.to > applied - freshSeconds));
  const level = (last.length > 0 ? median(last) : 0) / 4;
  let onset = samples.at(-1)?.from ?? applied - 1;
  let calm = 0;
  for (const sample of samples.reverse()) {
    calm = (waitRatios([sample])[0] ?? 0) < level ? calm + 1 : 0;
    if (calm === 2) break;
    if (calm === 0) onset = sample.from;
  }
  return onset;
}

function baselineOf(
  series: HeadlineSeries,
  instance: string,
  onset: number,
  applied: number,
): Sample[] {
  const seconds = series.samples(instance, onset, applied, sampleSeconds);
  if (seconds.length >= 5) return seconds;
  const fast = series.samples(instance, onset, applied, fastestSeconds);
  // A calm instance comes once a second: its last two points may span more than the spell.
  return fast.length > 0 ? fast : series.samples(instance, onset - 2.5, applied, fastestSeconds);
}

/** How much more the untouched wait now than before: what the rest of the host did meanwhile. */
function controlShift(
  series: HeadlineSeries,
  controls: readonly { readonly instance: string; readonly before: number }[],
  from: number,
  now: number,
): number {
  const shifts = controls.flatMap(({ instance, before }) => {
    const later = waitRatios(series.samples(instance, from, now, sampleSeconds));
    return later.length > 0 ? median(later) - before : [];
  });
  return shifts.length > 0 ? median(shifts) : 0;
}

function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(1)} %`;
}
