import type { AgentConfig } from '../../contract/config.ts';
import { metrics } from '../../contract/metrics.ts';
import type { Profile, ProfileSeries } from '../../contract/profile.ts';
import { attributesOf, type Sample } from '../../otlp/sample.ts';
import { difference } from '../../otlp/temporality.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { quantileOf } from './histogram-quantile.ts';

/** Takes what one export of details has, instance by instance: `samples` of it are those that are sent. */
export type DetailReading = {
  readonly add: (living: LivingInstance, samples: readonly Sample[]) => void;
  /** All of it was sent: from now on it is the last reading. One that is not ended was none. */
  readonly end: () => void;
};

export type Profiles = {
  /** Begins a reading; `time`: seconds since the epoch. */
  readonly begin: (time: number) => DetailReading;
  /** Of all instances of the last reading. */
  readonly all: () => Profile[];
  /** Of one of them, by its id. */
  readonly of: (instanceId: string) => Profile | null;
};

/** Readings that are remembered at most, however many the window has: every value of each is kept. */
const mostReadings = 8;
/** Of a long window only readings this far apart are kept, as a share of it: it may be longer by that. */
const apart = 1 / 6;

/** Makes profiles of the samples that were exported, when they are asked for. */
export function createProfiles(
  hostId: string,
  config: Pick<AgentConfig, 'profileWindowSeconds' | 'readIntervalSeconds'>,
): Profiles {
  /** The newest last; the first is where the window begins, once there are readings that old. */
  let readings: Reading[] = [];

  const profileOf = (last: Reading, living: LivingInstance): Profile => {
    const base = readings.find(({ rows }) => rows.has(living));
    const before = base === undefined || base === last ? undefined : base;
    const began = before?.time ?? living.start;
    const window = { began, seconds: Math.max(0, last.time - began) };
    const known = new Map(
      samplesOf(before?.rows.get(living)).map(sample => [keyOf(sample), sample]),
    );
    return {
      hostId,
      instance: living.instance,
      time: last.time,
      windowSeconds: window.seconds,
      series: samplesOf(last.rows.get(living)).map(sample =>
        seriesOf(sample, known.get(keyOf(sample)), window),
      ),
    };
  };
  const take = (reading: Reading): void => {
    // A reading may come a little early.
    const since = reading.time - config.profileWindowSeconds + config.readIntervalSeconds / 2;
    const from = readings.findLastIndex(({ time }) => time <= since);
    const kept = readings.slice(Math.max(from, 0));
    const [before, last] = kept.slice(-2);
    const near = config.profileWindowSeconds * apart - config.readIntervalSeconds / 2;
    if (before && last && Math.abs(last.time - before.time) < near) kept.pop();
    readings = [...kept, reading].slice(-mostReadings);
  };

  return {
    begin: time => {
      const rows = new Map<LivingInstance, Row>();
      return {
        add: (living, samples) =>
          rows.set(living, rowOf(samples, readings.at(-1)?.rows.get(living))),
        end: () => take({ time, rows }),
      };
    },
    all: () => {
      const last = readings.at(-1);
      return last ? [...last.rows.keys()].map(living => profileOf(last, living)) : [];
    },
    of: instanceId => {
      const last = readings.at(-1);
      const living = [...(last?.rows.keys() ?? [])].find(one => one.instance.id === instanceId);
      return last && living ? profileOf(last, living) : null;
    },
  };
}

type Series = Omit<Sample, 'value'>;
type Histogram = Exclude<Sample['value'], number>;

/**
 * One instance in one reading: what its series are, which readings share while it stays the same, and the value of each. A
 * hundred bytes of objects for each value, times the readings, would be most of the agent's memory.
 */
type Row = {
  readonly series: readonly Series[];
  /** Of the series of the same place; those that have a histogram have it there. */
  readonly values: Float64Array;
  readonly histograms: ReadonlyMap<number, Histogram>;
};

type Reading = { readonly time: number; readonly rows: ReadonlyMap<LivingInstance, Row> };

function rowOf(samples: readonly Sample[], before: Row | undefined): Row {
  const values = new Float64Array(samples.length);
  const histograms = new Map<number, Histogram>();
  const known = before?.series ?? [];
  let alike = 0;
  while (alike < samples.length && isSameSeries(samples[alike], known[alike])) alike += 1;
  const same = alike === samples.length && alike === known.length;
  // An iterator over the entries would make an object for each.
  for (let i = 0; i < samples.length; i += 1) {
    const value = samples[i]?.value ?? Number.NaN;
    if (typeof value === 'number') values[i] = value;
    else {
      const last = i < alike ? before?.histograms.get(i) : undefined;
      // It is cumulative: nothing came, nothing changed.
      histograms.set(i, last?.count === value.count && last.sum === value.sum ? last : value);
    }
  }
  if (same) return { series: known, values, histograms };
  // Tasks and neighbours come and go, and are told last: what stands before them is the same in all readings.
  const fresh = samples.slice(alike).map(({ value: _, ...series }) => series);
  return { series: [...known.slice(0, alike), ...fresh], values, histograms };
}

/** Sources share the attributes of what is told of every instance: most are the very same object. */
function isSameSeries(sample: Series | undefined, before: Series | undefined): boolean {
  return (
    sample !== undefined &&
    before !== undefined &&
    sample.metric === before.metric &&
    sample.start === before.start &&
    ((sample.attributes === before.attributes && sample.more === before.more) ||
      JSON.stringify(attributesOf(sample)) === JSON.stringify(attributesOf(before)))
  );
}

function samplesOf(row: Row | undefined): Sample[] {
  return (row?.series ?? []).map((series, i) => ({
    ...series,
    value: row?.histograms.get(i) ?? row?.values[i] ?? Number.NaN,
  }));
}

type Window = { readonly began: number; readonly seconds: number };

function seriesOf(sample: Sample, before: Sample | undefined, window: Window): ProfileSeries {
  const { name, unit, type } =
    typeof sample.metric === 'string'
      ? { name: sample.metric, ...metrics[sample.metric] }
      : sample.metric;
  const { start, value } = sample;
  const common = { metric: name, unit, attributes: { ...attributesOf(sample) } };
  if (type === 'gauge') return { ...common, type, value: Number(value) };
  const delta = sinceThen(sample, before, window);
  if (typeof value === 'number') {
    const grown = delta === null ? null : Number(delta);
    const perSecond = grown === null || window.seconds === 0 ? null : grown / window.seconds;
    return { ...common, type: 'counter', start, total: value, delta: grown, perSecond };
  }
  return {
    ...common,
    type: 'histogram',
    start,
    total: { count: value.count, sum: numberOrNull(value.sum) },
    delta:
      delta === null || typeof delta === 'number'
        ? null
        : {
            count: delta.count,
            sum: numberOrNull(delta.sum),
            p50: quantileOf(delta, 0.5),
            p90: quantileOf(delta, 0.9),
            p99: quantileOf(delta, 0.99),
          },
  };
}

/** What came within the window; null where it is not known what was there before. */
function sinceThen(
  { start, value }: Sample,
  before: Sample | undefined,
  window: Window,
): Sample['value'] | null {
  if (before && before.start === start) return difference(value, before.value);
  return start >= window.began ? value : null;
}

/** What tells the series of one instance apart; of a task not its name, which may change. */
function keyOf(sample: Sample): string {
  const { metric, task, more = {} } = sample;
  const name = typeof metric === 'string' ? metric : metric.name;
  return JSON.stringify(
    task === undefined
      ? [name, ...Object.values(attributesOf(sample))]
      : [name, task, ...Object.values(more)],
  );
}

function numberOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
