import type {
  Attributes,
  MetricPoint,
  MetricType,
  ResourcePoints,
  Temporality,
} from '../contract/telemetry.ts';
import { type MutableAttributes, readResource, tag } from './decode-common.ts';
import {
  type ReadPoint,
  readExponentialPoint,
  readHistogramPoint,
  readNumberPoint,
  type Skipped,
} from './decode-points.ts';
import {
  type Cursor,
  cursorOver,
  readFields,
  readLength,
  readMessage,
  readString,
  readVarint,
} from './protobuf-reader.ts';

/**
 * The points of an ExportMetricsServiceRequest by resource, in their order: sums, gauges, histograms of both kinds.
 * `skipped` gets, by reason, what is left out: summaries, points that say "no recorded value" or have no value or no
 * time, sums and histograms without a temporality, exponential histograms of negative values, and histograms whose
 * bucket counts do not fit their bounds. Resources without points are left out. `only`: names of the metrics that are read; the
 * others are passed over, and cost next to nothing.
 * @throws ProtocolError OTLP_MALFORMED with the byte offset
 * @see https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
 */
export function decodeMetrics(
  request: Uint8Array,
  skipped: Skipped = {},
  only: Only = null,
): ResourcePoints[] {
  const cursor = cursorOver(request);
  const resources: ResourcePoints[] = [];
  readFields(cursor, cursor.end, field => {
    if (field !== tag.bytes(1)) return false;
    const resource = readResourceMetrics(cursor, skipped, only);
    if (resource.points.length > 0) resources.push(resource);
    return true;
  });
  return resources;
}

function readResourceMetrics(cursor: Cursor, skipped: Skipped, only: Only): ResourcePoints {
  const resource: MutableAttributes = {};
  const points: MetricPoint[] = [];
  readMessage(cursor, field => {
    if (field === tag.bytes(1)) readResource(cursor, resource);
    else if (field === tag.bytes(2)) readScopeMetrics(cursor, points, skipped, only);
    else return false;
    return true;
  });
  return { resource, points };
}

function readScopeMetrics(
  cursor: Cursor,
  points: MetricPoint[],
  skipped: Skipped,
  only: Only,
): void {
  readMessage(cursor, field => {
    if (field !== tag.bytes(2)) return false;
    readMetric(cursor, points, skipped, only);
    return true;
  });
}

type Only = ReadonlySet<string> | null;
type Kind = { readonly type: MetricType; readonly read: ReadPoint };

/** By tag of the `data` oneof of Metric. */
const kinds: Readonly<Record<number, Kind>> = {
  [tag.bytes(5)]: { type: 'gauge', read: readNumberPoint },
  [tag.bytes(7)]: { type: 'sum', read: readNumberPoint },
  [tag.bytes(9)]: { type: 'histogram', read: readHistogramPoint },
  [tag.bytes(10)]: { type: 'histogram', read: readExponentialPoint },
};
const summary = tag.bytes(11);

function readMetric(cursor: Cursor, points: MetricPoint[], skipped: Skipped, only: Only): void {
  let metric = '';
  let unit = '';
  let kind: Kind | undefined;
  let start = 0;
  let end = 0;
  readMessage(cursor, field => {
    if (field === tag.bytes(1)) metric = readString(cursor);
    else if (field === tag.bytes(3)) unit = readString(cursor);
    else if (field === summary) {
      skipped.summary = (skipped.summary ?? 0) + 1;
      return false;
    } else {
      const found = kinds[field];
      if (!found) return false;
      // Name and unit may follow the data, which is therefore read last.
      kind = found;
      end = readLength(cursor);
      start = cursor.pos;
      cursor.pos = end;
    }
    return true;
  });
  const isWanted = only === null || only.has(metric);
  if (kind && isWanted)
    readData(cursor, { start, end }, { metric, unit, ...kind }, points, skipped);
}

type Range = { readonly start: number; readonly end: number };

function readData(
  cursor: Cursor,
  range: Range,
  of: Kind & { readonly metric: string; readonly unit: string },
  points: MetricPoint[],
  skipped: Skipped,
): void {
  const after = cursor.pos;
  const outer = cursor.end;
  cursor.pos = range.start;
  cursor.end = range.end;
  const { temporality, monotonic } = readAggregation(cursor, of.type);
  cursor.pos = range.start;
  readFields(cursor, range.end, field => {
    if (field !== tag.bytes(1)) return false;
    const read = of.read(cursor);
    if (typeof read === 'string') skipped[read] = (skipped[read] ?? 0) + 1;
    else if (!temporality) skipped['no-temporality'] = (skipped['no-temporality'] ?? 0) + 1;
    else points.push(point(of, monotonic, temporality, read));
    return true;
  });
  cursor.pos = after;
  cursor.end = outer;
}

function point(
  of: { readonly metric: string; readonly unit: string; readonly type: MetricType },
  monotonic: boolean,
  temporality: Temporality,
  read: {
    readonly attributes: Attributes;
    readonly start: number;
    readonly time: number;
    readonly value: MetricPoint['value'];
  },
): MetricPoint {
  return {
    metric: of.metric,
    unit: of.unit,
    type: of.type,
    monotonic,
    temporality,
    attributes: read.attributes,
    start: read.start,
    time: read.time,
    value: read.value,
  };
}

type Aggregation = { temporality: Temporality | null; monotonic: boolean };

/** Fields 2 and 3 of Sum, Histogram and ExponentialHistogram follow the points, which need them. */
function readAggregation(cursor: Cursor, type: MetricType): Aggregation {
  const read: Aggregation = {
    temporality: type === 'gauge' ? 'cumulative' : null,
    monotonic: false,
  };
  if (type === 'gauge') return read;
  readFields(cursor, cursor.end, field => {
    if (field === tag.varint(2)) read.temporality = temporalities[readVarint(cursor)] ?? null;
    else if (field === tag.varint(3) && type === 'sum') read.monotonic = readVarint(cursor) !== 0;
    else return false;
    return true;
  });
  return read;
}

/** enum AggregationTemporality; 0 is "unspecified", which the specification forbids to use. */
const temporalities: readonly (Temporality | undefined)[] = [undefined, 'delta', 'cumulative'];
