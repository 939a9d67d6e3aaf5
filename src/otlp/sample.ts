import type { MetricSpec } from '../contract/metrics/spec.ts';
import { type MetricName, metrics } from '../contract/metrics.ts';
import type { ExplicitHistogram, ExponentialHistogram } from '../contract/telemetry.ts';
import { type HistogramResolution, inResolution } from './histogram-resolution.ts';
import { seriesKey, type Temporal } from './temporality.ts';

/** Those that are frozen are taken to be the same for ever, and their bytes are kept while they are. */
export type PointAttributes = Readonly<Record<string, string | number | boolean>>;

/** A metric that the table of the contract does not know, since a user's own probe defines it. */
export type CustomMetric = Pick<MetricSpec, 'unit' | 'type' | 'description'> & {
  readonly name: string;
};

/** One series at one time: `value` is cumulative since `start` (seconds since the epoch). */
export type Sample = {
  readonly metric: MetricName | CustomMetric;
  readonly attributes?: PointAttributes;
  /** More of them, after those: what many series of others have too. Frozen, it is made and written once for all of them. */
  readonly more?: PointAttributes;
  /** The task it is of, as `TID@TICKS`. */
  readonly task?: string;
  readonly start: number;
  /** Histograms exact, as they were counted: in which resolution they are exported is decided last. */
  readonly value: number | ExplicitHistogram | ExponentialHistogram;
};

/** What is exported of a sample: its histogram in the resolution that was asked for. */
export type Shaped = Pick<Sample, 'start' | 'value'>;

/** Of whom something is told, and how. */
export type Telling = {
  /** One of `scopes` of the contract. */
  readonly scope: string;
  /** Attributes of the resource: the same object is the same for ever. */
  readonly resource: PointAttributes;
  readonly temporal: Temporal;
  /** As it is when something is told. */
  readonly resolution: () => HistogramResolution;
};

/** Shapes the samples of one resource, one after the other, for an export at `now`. */
export type Shaper = (sample: Sample, now: number, resolution: HistogramResolution) => Shaped;

export function createShaper({ resource, temporal }: Telling): Shaper {
  const identity = String(resource['service.instance.id']);
  let current: Sample | undefined;
  // One for all of them, asked before the next: most agents keep nothing of a series.
  const key = () => {
    if (!current) return identity;
    // A task that is moved to another instance goes on, and so do its series, which are nobody's totals.
    const whose = current.task === undefined ? identity : '';
    return seriesKey(whose, described(current).name, distinctionOf(current));
  };
  return (sample, now, resolution) => {
    current = sample;
    const shaped = described(sample).type === 'gauge' ? sample : temporal.shape(key, sample, now);
    const { start, value } = shaped;
    return typeof value === 'number' ? shaped : { start, value: inResolution(value, resolution) };
  };
}

/** The table of the contract, each with its name: made once, not for each point. */
const table: ReadonlyMap<string, CustomMetric> = new Map(
  Object.entries(metrics).map(([name, metric]) => [name, { name, ...metric }]),
);

/** Its metric, whoever defines it: the same one for the same name of the contract. */
export function described({ metric }: Sample): CustomMetric {
  if (typeof metric !== 'string') return metric;
  return table.get(metric) ?? { name: metric, ...metrics[metric] };
}

/**
 * What tells the series of one metric apart; of a task not its name, which may change. Values may hold whatever a user's
 * probe found: as JSON they run neither into each other, nor into what names a task.
 */
function distinctionOf(sample: Sample): string {
  const { task, more } = sample;
  if (task === undefined) return JSON.stringify(Object.values(attributesOf(sample)));
  return more === undefined ? task : `${Object.values(more).join(' ')}\n${task}`;
}

/** All attributes of a series. */
export function attributesOf({
  attributes = noAttributes,
  more,
}: Pick<Sample, 'attributes' | 'more'>): PointAttributes {
  return more === undefined ? attributes : { ...attributes, ...more };
}

const noAttributes: PointAttributes = Object.freeze({});
