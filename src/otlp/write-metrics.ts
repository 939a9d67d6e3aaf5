import type { HrTime } from '@opentelemetry/api';
import {
  AggregationTemporality,
  type DataPoint,
  DataPointType,
  type ExponentialHistogram,
  type Histogram,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import { createBackwardWriter } from './backward-writer.ts';
import { backwards, writeAttributes } from './write-attributes.ts';

/*
 * The SDK's own serializer answers the same bytes (a test holds the two against each other), for any data there is; it goes over
 * all twice, and writes what never changes anew each time. An agent serializes all the time, on a host that is other people's.
 *
 * Field numbers: https://github.com/open-telemetry/opentelemetry-proto/blob/v1.7.0/opentelemetry/proto/metrics/v1/metrics.proto
 */

const writer = createBackwardWriter();
/** The field `resource` of a ResourceMetrics. */
const resources = new WeakMap<ResourceMetrics['resource'], Uint8Array>();
/** The fields `name`, `description` and `unit` of a Metric. */
const descriptors = new WeakMap<MetricData['descriptor'], Uint8Array>();
/** The field `attributes` of a NumberDataPoint, of those that are frozen. */
const frozen = new WeakMap<DataPoint<number>['attributes'], Uint8Array>();

/**
 * Where in what was written the fields of one point stand that change from one export to the next, in bytes before its end. Each
 * has a fixed length, so that the next export can be written over the last. `value`: of a number, or of the count of an
 * explicit histogram; before it stand the time and the start, after a count the sum where there is one. `counts`: of the
 * first bucket.
 */
export type PointPlace = { readonly value: number; readonly counts: number };

/** By data point; none of an exponential histogram, whose buckets are of any length. */
export type PointPlaces = Map<unknown, PointPlace>;

let places: PointPlaces | null = null;

/**
 * One ExportMetricsServiceRequest with the metrics of one resource; several, one after another, are one request as well.
 * Values are doubles; exemplars, min and max are not written. `noted`: gets where the fields of the points stand.
 * @throws TypeError for an attribute that is no AnyValue
 */
export function writeMetrics(
  { resource, scopeMetrics }: ResourceMetrics,
  noted: PointPlaces | null = null,
): Uint8Array {
  places = noted;
  try {
    backwards(scopeMetrics, writeScope);
    remembered(resources, resource, () => {
      const end = writer.mark();
      writer.varint(2, 0);
      writeAttributes(writer, 1, resource.attributes);
      writer.begin(1, end);
    });
    writer.begin(1, 0);
    return writer.take();
  } catch (error) {
    // What was written so far is no part of the next.
    writer.take();
    throw error;
  }
}

function remembered<K extends object>(
  known: WeakMap<K, Uint8Array>,
  key: K,
  write: () => void,
): void {
  const bytes = known.get(key);
  if (bytes) {
    writer.raw(bytes);
    return;
  }
  const before = writer.mark();
  write();
  known.set(key, writer.since(before));
}

function writeScope({ scope, metrics }: ResourceMetrics['scopeMetrics'][number]): void {
  const end = writer.mark();
  backwards(metrics, writeMetric);
  const scopeEnd = writer.mark();
  if (scope.version) writer.string(2, scope.version);
  writer.string(1, scope.name);
  writer.begin(1, scopeEnd);
  writer.begin(2, end);
}

function writeMetric(metric: MetricData): void {
  const end = writer.mark();
  writeData(metric);
  const { descriptor } = metric;
  remembered(descriptors, descriptor, () => {
    if (descriptor.unit) writer.string(3, descriptor.unit);
    if (descriptor.description) writer.string(2, descriptor.description);
    writer.string(1, descriptor.name);
  });
  writer.begin(2, end);
}

/** The number of each kind's field in a Metric. */
const fieldOf = {
  [DataPointType.GAUGE]: 5,
  [DataPointType.SUM]: 7,
  [DataPointType.HISTOGRAM]: 9,
  [DataPointType.EXPONENTIAL_HISTOGRAM]: 10,
};

function writeData(metric: MetricData): void {
  const end = writer.mark();
  if (metric.dataPointType === DataPointType.SUM && metric.isMonotonic) writer.varint(3, 1);
  if (metric.dataPointType !== DataPointType.GAUGE)
    writer.varint(2, metric.aggregationTemporality === AggregationTemporality.DELTA ? 1 : 2);
  switch (metric.dataPointType) {
    case DataPointType.HISTOGRAM:
      backwards(metric.dataPoints, writeHistogram);
      break;
    case DataPointType.EXPONENTIAL_HISTOGRAM:
      backwards(metric.dataPoints, writeExponential);
      break;
    default:
      backwards(metric.dataPoints, writeNumber);
  }
  writer.begin(fieldOf[metric.dataPointType], end);
}

function writeNumber(point: DataPoint<number>): void {
  const end = writer.mark();
  const { attributes } = point;
  if (Object.isFrozen(attributes))
    remembered(frozen, attributes, () => writeAttributes(writer, 7, attributes));
  else writeAttributes(writer, 7, attributes);
  places?.set(point, { value: writer.mark() + 8, counts: 0 });
  writer.double(4, point.value);
  writeTimes(point.startTime, point.endTime);
  writer.begin(1, end);
}

function writeHistogram(point: DataPoint<Histogram>): void {
  const end = writer.mark();
  const { count, sum, buckets } = point.value;
  writeAttributes(writer, 9, point.attributes);
  if (buckets.boundaries.length > 0) writer.packedDoubles(7, buckets.boundaries);
  const counts = writer.mark() + 8 * buckets.counts.length;
  if (buckets.counts.length > 0) writer.packedCounts(6, buckets.counts);
  if (sum !== undefined) writer.double(5, sum);
  places?.set(point, { value: writer.mark() + 8, counts });
  writer.count(4, count);
  writeTimes(point.startTime, point.endTime);
  writer.begin(1, end);
}

function writeExponential(point: DataPoint<ExponentialHistogram>): void {
  const end = writer.mark();
  const { count, sum, scale, zeroCount, positive, negative } = point.value;
  writeBuckets(9, negative);
  writeBuckets(8, positive);
  writer.count(7, zeroCount);
  if (scale !== 0) writer.sint32(6, scale);
  if (sum !== undefined) writer.double(5, sum);
  writer.count(4, count);
  writeTimes(point.startTime, point.endTime);
  writeAttributes(writer, 1, point.attributes);
  writer.begin(1, end);
}

function writeBuckets(field: number, buckets: ExponentialHistogram['positive']): void {
  const end = writer.mark();
  if (buckets.bucketCounts.length > 0) writer.packedVarints(2, buckets.bucketCounts);
  if (buckets.offset !== 0) writer.sint32(1, buckets.offset);
  writer.begin(field, end);
}

type Nanoseconds = { time: HrTime | null; low: number; high: number };

/** Most points of an export have the times of the one before. */
const lastStart: Nanoseconds = { time: null, low: 0, high: 0 };
const lastEnd: Nanoseconds = { time: null, low: 0, high: 0 };

function writeTimes(start: HrTime, end: HrTime): void {
  writeTime(3, end, lastEnd);
  writeTime(2, start, lastStart);
}

function writeTime(field: number, time: HrTime, last: Nanoseconds): void {
  if (last.time !== time) {
    const ns = BigInt(time[0]) * 1_000_000_000n + BigInt(time[1]);
    [last.time, last.low, last.high] = [time, Number(ns & 0xffff_ffffn), Number(ns >> 32n)];
  }
  writer.halves(field, last.low, last.high);
}
