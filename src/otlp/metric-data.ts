import type { HrTime } from '@opentelemetry/api';
import { ValueType } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  DataPointType,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import { type MetricName, metrics } from '../contract/metrics.ts';
import type { ExplicitHistogram, ExponentialHistogram } from '../contract/telemetry.ts';
import { type HistogramResolution, inResolution } from './histogram-resolution.ts';
import { seriesKey, type Temporal } from './temporality.ts';

type PointAttributes = Readonly<Record<string, string | number | boolean>>;

/** One series at one time: `value` is cumulative since `start` (seconds since the epoch). */
export type Sample = {
  readonly metric: MetricName;
  readonly attributes?: PointAttributes;
  /** The task it is of, as `TID@TICKS`. */
  readonly task?: string;
  /** Tells several series of one task and metric apart. */
  readonly part?: string;
  readonly start: number;
  /** Histograms exact, as they were counted: in which resolution they are exported is decided last. */
  readonly value: number | ExplicitHistogram | ExponentialHistogram;
};

/** The samples of one resource as the SDK's data, in the temporality that was asked for. `scope`: one of `scopes` of the contract. */
export function resourceMetrics(
  scope: string,
  resource: PointAttributes,
  samples: readonly Sample[],
  now: number,
  temporal: Temporal,
  resolution: HistogramResolution = 'explicit',
): ResourceMetrics {
  const byMetric = new Map<MetricName, MetricData>();
  const identity = String(resource['service.instance.id']);
  for (const sample of samples) {
    const attributes = sample.attributes ?? {};
    const distinction = distinctionOf(sample);
    const key = seriesKey(identity, sample.metric, distinction);
    const { start, value: exact } =
      metrics[sample.metric].type === 'gauge'
        ? sample
        : temporal.shape(key, sample.start, now, sample.value);
    const value = typeof exact === 'number' ? exact : inResolution(exact, resolution);
    const point = {
      startTime: hrTime(start),
      endTime: hrTime(now),
      attributes,
      value: pointValue(value),
    };
    const data = byMetric.get(sample.metric);
    if (data) (data.dataPoints as unknown[]).push(point);
    else byMetric.set(sample.metric, metricData(sample.metric, value, point, temporal.temporality));
  }
  return {
    resource: resourceFromAttributes(resource),
    scopeMetrics: [{ scope: { name: scope, version: '0.1.0' }, metrics: [...byMetric.values()] }],
  };
}

/** What tells the series of one metric apart; of a task not its name, which may change. */
function distinctionOf({ task, part, attributes }: Sample): string {
  if (task === undefined) return Object.values(attributes ?? {}).join(' ');
  return part === undefined ? task : `${part}\n${task}`;
}

function metricData(
  metric: MetricName,
  value: Sample['value'],
  point: unknown,
  temporality: AggregationTemporality,
): MetricData {
  const spec = metrics[metric];
  const descriptor = {
    name: metric,
    description: spec.description,
    unit: spec.unit,
    valueType: ValueType.DOUBLE,
  };
  const dataPoints = [point];
  if (typeof value === 'number') {
    return (
      spec.type === 'gauge'
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
      sum: value.sum,
      buckets: { boundaries: [...value.bounds], counts: [...value.counts] },
    };
  }
  return {
    count: value.count,
    sum: value.sum,
    scale: value.scale,
    zeroCount: value.zeroCount,
    positive: { offset: value.offset, bucketCounts: [...value.counts] },
    negative: { offset: 0, bucketCounts: [] },
  };
}

function hrTime(seconds: number): HrTime {
  const whole = Math.floor(seconds);
  return [whole, Math.round((seconds - whole) * 1e9)];
}
