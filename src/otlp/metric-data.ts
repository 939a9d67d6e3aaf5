import type { HrTime } from '@opentelemetry/api';
import { ValueType } from '@opentelemetry/api';
import type { Resource } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  DataPointType,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
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
  /** The task it is of, as `TID@TICKS`. */
  readonly task?: string;
  /** Tells several series of one task and metric apart. */
  readonly part?: string;
  readonly start: number;
  /** Histograms exact, as they were counted: in which resolution they are exported is decided last. */
  readonly value: number | ExplicitHistogram | ExponentialHistogram;
};

/** What is exported of a sample: its histogram in the resolution that was asked for. */
export type Shaped = Pick<Sample, 'start' | 'value'>;

/** Shapes the samples of one resource, one after the other, for an export at `now`. */
export type Shaper = (sample: Sample, now: number, resolution: HistogramResolution) => Shaped;

export function createShaper(resource: Resource, temporal: Temporal): Shaper {
  const identity = String(resource.attributes['service.instance.id']);
  let current: Sample | undefined;
  // One for all of them, asked before the next: most agents keep nothing of a series.
  const key = () =>
    current ? seriesKey(identity, described(current).name, distinctionOf(current)) : identity;
  return (sample, now, resolution) => {
    current = sample;
    const shaped = described(sample).type === 'gauge' ? sample : temporal.shape(key, sample, now);
    const { start, value } = shaped;
    return typeof value === 'number' ? shaped : { start, value: inResolution(value, resolution) };
  };
}

/**
 * The samples of one resource as the SDK's data, in the temporality that was asked for. `scope`: one of `scopes` of the
 * contract; `made`: gets what became of each sample, in their order.
 */
export function resourceMetrics(
  scope: string,
  resource: Resource,
  samples: readonly Sample[],
  now: number,
  temporal: Temporal,
  resolution: HistogramResolution = 'explicit',
  made: { readonly shaped: Shaped; readonly point: object }[] | null = null,
): ResourceMetrics {
  const byMetric = new Map<string, MetricData>();
  const endTime = hrTime(now);
  let [began, startTime] = [now, endTime];
  const shape = createShaper(resource, temporal);
  for (const sample of samples) {
    const attributes = sample.attributes ?? noAttributes;
    const metric = described(sample);
    const shaped = shape(sample, now, resolution);
    const { start, value } = shaped;
    if (start !== began) [began, startTime] = [start, hrTime(start)];
    const point = { startTime, endTime, attributes, value: pointValue(value) };
    made?.push({ shaped, point });
    const data = byMetric.get(metric.name);
    if (data) (data.dataPoints as unknown[]).push(point);
    else byMetric.set(metric.name, metricData(metric, value, point, temporal.temporality));
  }
  return {
    resource,
    scopeMetrics: [{ scope: { name: scope, version: '0.1.0' }, metrics: [...byMetric.values()] }],
  };
}

const noAttributes: PointAttributes = {};

/** The table of the contract, each with its name: made once, not for each point. */
const table: ReadonlyMap<string, CustomMetric> = new Map(
  Object.entries(metrics).map(([name, metric]) => [name, { name, ...metric }]),
);

function described({ metric }: Sample): CustomMetric {
  if (typeof metric !== 'string') return metric;
  return table.get(metric) ?? { name: metric, ...metrics[metric] };
}

/**
 * What tells the series of one metric apart; of a task not its name, which may change. Values may hold whatever a user's
 * probe found: as JSON they run neither into each other, nor into what names a task.
 */
function distinctionOf({ task, part, attributes }: Sample): string {
  if (task === undefined) return JSON.stringify(Object.values(attributes ?? {}));
  return part === undefined ? task : `${part}\n${task}`;
}

const descriptors = new WeakMap<CustomMetric, MetricData['descriptor']>();

/** The same one for the same metric, by which it is known that it was written already. */
function descriptorOf(metric: CustomMetric): MetricData['descriptor'] {
  const known = descriptors.get(metric);
  if (known) return known;
  const { name, description, unit } = metric;
  const descriptor = { name, description, unit, valueType: ValueType.DOUBLE };
  descriptors.set(metric, descriptor);
  return descriptor;
}

function metricData(
  metric: CustomMetric,
  value: Sample['value'],
  point: unknown,
  temporality: AggregationTemporality,
): MetricData {
  const descriptor = descriptorOf(metric);
  const dataPoints = [point];
  if (typeof value === 'number') {
    return (
      metric.type === 'gauge'
        ? {
            dataPointType: DataPointType.GAUGE,
            descriptor,
            aggregationTemporality: AggregationTemporality.CUMULATIVE,
            dataPoints,
          }
        : {
            dataPointType: DataPointType.SUM,
            isMonotonic: true,
            descriptor,
            aggregationTemporality: temporality,
            dataPoints,
          }
    ) as MetricData;
  }
  const dataPointType =
    value.kind === 'explicit' ? DataPointType.HISTOGRAM : DataPointType.EXPONENTIAL_HISTOGRAM;
  return {
    dataPointType,
    descriptor,
    aggregationTemporality: temporality,
    dataPoints,
  } as MetricData;
}

function pointValue(value: Sample['value']): unknown {
  if (typeof value === 'number') return value;
  if (value.kind === 'explicit') {
    return {
      count: value.count,
      // NaN: it is not known, and is left out.
      sum: Number.isNaN(value.sum) ? undefined : value.sum,
      // The SDK's types would allow to change them, which nobody does.
      buckets: { boundaries: value.bounds, counts: value.counts },
    };
  }
  return {
    count: value.count,
    sum: value.sum,
    scale: value.scale,
    zeroCount: value.zeroCount,
    positive: { offset: value.offset, bucketCounts: value.counts },
    negative: { offset: 0, bucketCounts: [] },
  };
}

function hrTime(seconds: number): HrTime {
  const whole = Math.floor(seconds);
  return [whole, Math.round((seconds - whole) * 1e9)];
}
