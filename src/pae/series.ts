import { attr, headlineMetrics } from '../contract/metrics.ts';
import type { ResourcePoints } from '../contract/telemetry.ts';

/** Rates of one instance over `spanSeconds` up to `time` (seconds since the epoch), in cores. */
export type Observation = {
  readonly time: number;
  readonly spanSeconds: number;
  readonly usedCores: number;
  readonly waitCores: number;
  readonly throttledCores: number;
};

/** Who has not been heard of for so long, or for so many of its intervals, is silent: it has ended, or its agent has. */
const silentSeconds = 15;
const silentSpans = 3;

/** Whether this, the newest of an instance, is so old that it says nothing of it any more at `now` (seconds since the epoch). */
export function isSilent({ time, spanSeconds }: Observation, now: number): boolean {
  return now - time > Math.max(silentSeconds, silentSpans * spanSeconds);
}

type Cumulative = {
  readonly time: number;
  readonly used: number;
  readonly wait: number;
  readonly throttled: number;
};
type Series = { start: number; readonly samples: Cumulative[]; lastTouched: number };

export type SeriesCounters = {
  late: number;
  resets: number;
  incomplete: number;
  /** Deltas: a lost one would go unseen, so rates are told from cumulative series only. */
  notCumulative: number;
  evicted: number;
};

export type SeriesStore = {
  /** Takes the headline points of one resource; answers the observation they complete, if any. */
  readonly take: (
    points: ResourcePoints,
  ) => { instanceId: string; observation: Observation } | null;
  readonly instances: () => IterableIterator<string>;
  /** The last `count` observations as they arrived, oldest first. */
  readonly recent: (instanceId: string, count: number) => Observation[];
  /**
   * Rates on steps of `stepSeconds` that end at `until`, or with the newest sample, which may be older by as much as its series
   * is slow; interpolated in the cumulative values; oldest first, gaps left out at the front.
   */
  readonly steps: (
    instanceId: string,
    until: number,
    stepSeconds: number,
    count: number,
  ) => Observation[];
  readonly forget: (instanceId: string) => void;
  readonly counters: () => Readonly<SeriesCounters>;
};

/** Window kept of each series: what the forecaster looks back on, and some. */
const keepSeconds = 130;
/** Samples of 200 ms over that window. */
const keepSamples = 700;

/** Keeps cumulative headline series by instance, and answers rates. Bounded: the instance that was silent longest goes. */
export function createSeriesStore(maxInstances: number): SeriesStore {
  const byInstance = new Map<string, Series>();
  const counters: SeriesCounters = {
    late: 0,
    resets: 0,
    incomplete: 0,
    notCumulative: 0,
    evicted: 0,
  };

  const newestOf = (instanceId: string): Cumulative | undefined =>
    byInstance.get(instanceId)?.samples.at(-1);

  const append = (instanceId: string, start: number, sample: Cumulative): Observation | null => {
    let series = byInstance.get(instanceId);
    const newest = series?.samples.at(-1);
    const isSetBack = newest !== undefined && isAfterSetBack(sample, newest);
    if (series && (isSetBack || Math.abs(series.start - start) > 0.001)) {
      counters.resets += 1;
      series = undefined;
    }
    if (!series) {
      series = { start, samples: [], lastTouched: sample.time };
      byInstance.delete(instanceId);
      byInstance.set(instanceId, series);
      evict();
    }
    const last = series.samples.at(-1);
    if (last && sample.time <= last.time) {
      counters.late += 1;
      return null;
    }
    series.samples.push(sample);
    series.lastTouched = sample.time;
    while (
      series.samples.length > keepSamples ||
      (series.samples[0]?.time ?? 0) < sample.time - keepSeconds
    )
      series.samples.shift();
    return last ? rate(last, sample) : null;
  };

  const evict = (): void => {
    if (byInstance.size <= maxInstances) return;
    const [oldest] = [...byInstance].reduce((a, b) =>
      a[1].lastTouched <= b[1].lastTouched ? a : b,
    );
    byInstance.delete(oldest);
    counters.evicted += 1;
  };

  return {
    take: ({ resource, points }) => {
      const instanceId = resource[attr.instanceId];
      const [used, wait, throttled] = headlineMetrics.map(name =>
        points.find(point => point.metric === name),
      );
      if (typeof instanceId !== 'string' || (!used && !wait && !throttled)) return null;
      const told = [used, wait, throttled].filter(point => point !== undefined);
      if (!used || !wait || told.some(point => typeof point.value !== 'number')) {
        counters.incomplete += 1;
        return null;
      }
      if (told.some(point => point.temporality !== 'cumulative')) {
        counters.notCumulative += 1;
        return null;
      }
      const sample = {
        time: used.time,
        used: Number(used.value),
        wait: Number(wait.value),
        // Not every driver of the agent can tell it.
        throttled: Number(throttled?.value ?? newestOf(instanceId)?.throttled ?? 0),
      };
      const observation = append(instanceId, used.start, sample);
      return observation ? { instanceId, observation } : null;
    },
    instances: () => byInstance.keys(),
    recent: (instanceId, count) => {
      const samples = byInstance.get(instanceId)?.samples.slice(-count - 1) ?? [];
      return samples.slice(1).map((sample, i) => rate(samples[i] ?? sample, sample));
    },
    steps: (instanceId, until, stepSeconds, count) => {
      const samples = byInstance.get(instanceId)?.samples ?? [];
      const last = lastStep(samples, until, stepSeconds);
      const steps: Observation[] = [];
      let end = interpolate(samples, last);
      for (let i = 1; i <= count && end; i += 1) {
        const begin = interpolate(samples, last - i * stepSeconds);
        if (begin) steps.push(rate(begin, end));
        end = begin;
      }
      return steps.reverse();
    },
    forget: instanceId => void byInstance.delete(instanceId),
    counters: () => ({ ...counters }),
  };
}

/** Older than all that is kept, or with more in it than was counted later, it is no late one: the clock was set back. */
function isAfterSetBack(sample: Cumulative, newest: Cumulative): boolean {
  if (sample.time >= newest.time) return false;
  const hasMore = (['used', 'wait', 'throttled'] as const).some(key => sample[key] > newest[key]);
  return hasMore || sample.time < newest.time - keepSeconds;
}

function rate(before: Cumulative, after: Cumulative): Observation {
  const spanSeconds = after.time - before.time;
  const cores = (now: number, then: number) => Math.max(0, now - then) / spanSeconds;
  return {
    time: after.time,
    spanSeconds,
    usedCores: cores(after.used, before.used),
    waitCores: cores(after.wait, before.wait),
    throttledCores: cores(after.throttled, before.throttled),
  };
}

/** How late the newest sample may be, in intervals of its series, and in steps at least: one that calms comes less often at once. */
const lateSpans = 1.5;
const lateSteps = 2;

/** Where steps up to `until` end: with the newest sample, unless that is too late to tell of them. */
function lastStep(samples: readonly Cumulative[], until: number, stepSeconds: number): number {
  const [before, newest] = samples.slice(-2);
  if (!before || !newest) return until;
  const late = Math.max(lateSpans * (newest.time - before.time), lateSteps * stepSeconds);
  return until - newest.time <= late ? Math.min(until, newest.time) : until;
}

/** The cumulative values at a time between two samples; null outside of what is kept. */
function interpolate(samples: readonly Cumulative[], time: number): Cumulative | null {
  let low = 0;
  let high = samples.length - 1;
  const first = samples[low];
  const last = samples[high];
  if (!first || !last || time < first.time || time > last.time) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((samples[middle]?.time ?? 0) <= time) low = middle;
    else high = middle;
  }
  const [a, b] = [samples[low] ?? first, samples[high] ?? last];
  const share = b.time === a.time ? 0 : (time - a.time) / (b.time - a.time);
  const between = (x: number, y: number) => x + (y - x) * share;
  return {
    time,
    used: between(a.used, b.used),
    wait: between(a.wait, b.wait),
    throttled: between(a.throttled, b.throttled),
  };
}
