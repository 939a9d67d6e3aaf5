import type { headlineMetrics } from '../contract/metrics.ts';

export type HeadlineMetric = (typeof headlineMetrics)[number];

/** What an instance did over a span: seconds of CPU time and of run-queue wait (throttled time is in neither). */
export type Sample = {
  readonly from: number;
  readonly to: number;
  readonly run: number;
  readonly wait: number;
};

/** How far back the series reach, in seconds. */
export const keptSeconds = 120;
/** Points of one series that are kept: 120 s at 200 ms, with some to spare. */
const mostPoints = 1000;

type Series = { times: number[]; values: number[] };

/** The last 120 s of the headline series, cumulative seconds by instance; times in seconds since the epoch. */
export type HeadlineSeries = ReturnType<typeof createHeadlineSeries>;

export function createHeadlineSeries(mostInstances = 4096) {
  const instances = new Map<string, Map<HeadlineMetric, Series>>();
  const counters = { late: 0, restarted: 0, instancesDropped: 0 };
  return {
    counters,
    add: (instance: string, metric: HeadlineMetric, time: number, value: number): void => {
      const series = seriesOf(instances, instance, metric);
      const last = series.times.length - 1;
      const newest = series.times[last] ?? 0;
      const counted = series.values[last] ?? 0;
      // Older than all that is kept, or with more in it than was counted later, it is no late one: the clock was set back.
      const isSetBack = time < newest - keptSeconds || (time < newest && value > counted);
      if (time <= newest && !isSetBack) {
        counters.late += 1;
        return;
      }
      if (isSetBack || value < counted) {
        // The cgroup was made again, the agent started anew, or the clock was set: nothing before can be compared.
        counters.restarted += 1;
        series.times.length = 0;
        series.values.length = 0;
      }
      series.times.push(time);
      series.values.push(value);
      trim(series, time - keptSeconds);
      counters.instancesDropped += dropOldest(instances, mostInstances);
    },
    /** Instances with a point since `since`. */
    instances: (since: number): string[] =>
      [...instances.keys()].filter(id => newestOf(instances, id) >= since),
    /** Time of the newest point from which wait can be told, and the interval to the one before; null without two. */
    newest: (instance: string): { time: number; intervalSeconds: number } | null => {
      const times = instances.get(instance)?.get('sculptor.runqueue.wait')?.times ?? [];
      const time = times.at(-1);
      const previous = times.at(-2);
      return time === undefined || previous === undefined
        ? null
        : { time, intervalSeconds: time - previous };
    },
    /**
     * Samples within [from, to] between points as they came, each at least `minSeconds` long: no value is made up from
     * both sides of a change. Ascending; empty when fewer than two points are within.
     */
    samples: (instance: string, from: number, to: number, minSeconds: number): Sample[] =>
      samplesOf(instances.get(instance), from, to, minSeconds),
    /** Drops instances that ended: without a point since `before`. */
    forget: (before: number): void => {
      for (const id of instances.keys()) if (newestOf(instances, id) < before) instances.delete(id);
    },
  };
}

function seriesOf(
  instances: Map<string, Map<HeadlineMetric, Series>>,
  instance: string,
  metric: HeadlineMetric,
): Series {
  const metrics = instances.get(instance) ?? new Map<HeadlineMetric, Series>();
  const series = metrics.get(metric) ?? { times: [], values: [] };
  metrics.set(metric, series);
  instances.set(instance, metrics);
  return series;
}

function newestOf(instances: Map<string, Map<HeadlineMetric, Series>>, id: string): number {
  return Math.max(
    0,
    ...[...(instances.get(id)?.values() ?? [])].map(series => series.times.at(-1) ?? 0),
  );
}

/** Cut in one go when a quarter is too old: shifting one by one would move the array each time. */
function trim(series: Series, before: number): void {
  const keep = Math.max(
    series.times.findIndex(time => time >= before),
    series.times.length - mostPoints,
  );
  if (keep > series.times.length / 4 || series.times.length > mostPoints) {
    series.times.splice(0, keep);
    series.values.splice(0, keep);
  }
}

function dropOldest(
  instances: Map<string, Map<HeadlineMetric, Series>>,
  mostInstances: number,
): number {
  if (instances.size <= mostInstances) return 0;
  const [first] = instances.keys();
  if (first !== undefined) instances.delete(first);
  return 1;
}

function samplesOf(
  metrics: Map<HeadlineMetric, Series> | undefined,
  from: number,
  to: number,
  minSeconds: number,
): Sample[] {
  const cpu = metrics?.get('container.cpu.time');
  const wait = metrics?.get('sculptor.runqueue.wait');
  if (!cpu || !wait) return [];
  const samples: Sample[] = [];
  let start: { time: number; run: number; wait: number } | null = null;
  for (let i = firstFrom(wait.times, from); i < wait.times.length; i += 1) {
    const time = wait.times[i] ?? 0;
    if (time > to) break;
    const run = valueAt(cpu, time);
    const waited = wait.values[i];
    if (run === null || waited === undefined) continue;
    if (start === null) {
      start = { time, run, wait: waited };
    } else if (time - start.time >= minSeconds) {
      samples.push({ from: start.time, to: time, run: run - start.run, wait: waited - start.wait });
      start = { time, run, wait: waited };
    }
  }
  return samples;
}

/** The series of one instance come with the same times; where they do not, the value is interpolated between neighbours. */
function valueAt({ times, values }: Series, time: number): number | null {
  const at = firstFrom(times, time);
  const right = times[at];
  const rightValue = values[at];
  if (right === undefined || rightValue === undefined) return null;
  if (right === time) return rightValue;
  const left = times[at - 1];
  const leftValue = values[at - 1];
  if (left === undefined || leftValue === undefined) return null;
  return leftValue + ((rightValue - leftValue) * (time - left)) / (right - left);
}

/** Index of the first time that is not before this one; how many there are when all are. */
function firstFrom(times: readonly number[], time: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** wait / (run + wait) of each sample in which there was demand. */
export function waitRatios(samples: readonly Sample[]): number[] {
  return samples.flatMap(({ from, to, run, wait }) =>
    // Below a thousandth of a core a ratio is the noise of a few wake-ups.
    run + wait > 0.001 * (to - from) ? wait / (run + wait) : [],
  );
}

/** Cores of run and wait over all samples together. */
export function coresOf(samples: readonly Sample[]): { run: number; wait: number } {
  const seconds = samples.reduce((sum, sample) => sum + sample.to - sample.from, 0);
  const sum = (key: 'run' | 'wait') => samples.reduce((total, sample) => total + sample[key], 0);
  return seconds > 0
    ? { run: sum('run') / seconds, wait: sum('wait') / seconds }
    : { run: 0, wait: 0 };
}
