import type { AgentConfig } from '../contract/config.ts';
import { metrics } from '../contract/metrics.ts';
import type { Profile, ProfileSeries } from '../contract/profile.ts';
import type { Sample } from '../otlp/metric-data.ts';
import { difference } from '../otlp/temporality.ts';
import { quantileOf } from './histogram-quantile.ts';
import type { LivingInstance } from './instances.ts';

/** What one export of details has: of each instance the samples that are sent. `time`: seconds since the epoch. */
export type DetailReading = {
  readonly time: number;
  readonly samples: ReadonlyMap<LivingInstance, readonly Sample[]>;
};

export type Profiles = {
  readonly take: (reading: DetailReading) => void;
  /** Of all instances of the last reading. */
  readonly all: () => Profile[];
  /** Of one of them, by its id. */
  readonly of: (instanceId: string) => Profile | null;
};

/** Readings that are remembered at most, however many the window has: every sample of each is kept. */
const mostReadings = 8;
/** Of a long window only readings this far apart are kept, as a share of it: it may be longer by that. */
const apart = 1 / 6;

/** Makes profiles of the samples that were exported, when they are asked for. */
export function createProfiles(
  hostId: string,
  config: Pick<AgentConfig, 'profileWindowSeconds' | 'readIntervalSeconds'>,
): Profiles {
  /** The newest last; the first is where the window begins, once there are readings that old. */
  let readings: DetailReading[] = [];

  const profileOf = (last: DetailReading, living: LivingInstance): Profile => {
    const base = readings.find(({ samples }) => samples.has(living));
    const before = base === undefined || base === last ? undefined : base;
    const began = before?.time ?? living.start;
    const window = { began, seconds: Math.max(0, last.time - began) };
    const known = new Map(before?.samples.get(living)?.map(sample => [keyOf(sample), sample]));
    const samples = last.samples.get(living) ?? [];
    return {
      hostId,
      instance: living.instance,
      time: last.time,
      windowSeconds: window.seconds,
      series: samples.map(sample => seriesOf(sample, known.get(keyOf(sample)), window)),
    };
  };

  return {
    take: reading => {
      // A reading may come a little early.
      const since = reading.time - config.profileWindowSeconds + config.readIntervalSeconds / 2;
      const from = readings.findLastIndex(({ time }) => time <= since);
      const kept = readings.slice(Math.max(from, 0));
      const [before, last] = kept.slice(-2);
      const near = config.profileWindowSeconds * apart - config.readIntervalSeconds / 2;
      if (before && last && Math.abs(last.time - before.time) < near) kept.pop();
      readings = [...kept, reading].slice(-mostReadings);
    },
    all: () => {
      const last = readings.at(-1);
      return last ? [...last.samples.keys()].map(living => profileOf(last, living)) : [];
    },
    of: instanceId => {
      const last = readings.at(-1);
      const living = [...(last?.samples.keys() ?? [])].find(one => one.instance.id === instanceId);
      return last && living ? profileOf(last, living) : null;
    },
  };
}

type Window = { readonly began: number; readonly seconds: number };

function seriesOf(sample: Sample, before: Sample | undefined, window: Window): ProfileSeries {
  const { name, unit, type } =
    typeof sample.metric === 'string'
      ? { name: sample.metric, ...metrics[sample.metric] }
      : sample.metric;
  const { start, value } = sample;
  const common = { metric: name, unit, attributes: { ...sample.attributes } };
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
function keyOf({ metric, task, part, attributes }: Sample): string {
  const name = typeof metric === 'string' ? metric : metric.name;
  return JSON.stringify(
    task === undefined ? [name, ...Object.values(attributes ?? {})] : [name, task, part],
  );
}

function numberOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
