import { schemaUrl } from '../contract/metrics.ts';
import type { ExplicitHistogram, ExponentialHistogram } from '../contract/telemetry.ts';
import { createBackwardWriter } from './backward-writer.ts';
import type { HistogramResolution } from './histogram-resolution.ts';
import { type Nanoseconds, nanoseconds } from './nanoseconds.ts';
import {
  type CustomMetric,
  createShaper,
  described,
  type PointAttributes,
  type Sample,
  type Shaped,
  type Shaper,
  type Telling,
} from './sample.ts';
import { backwards, writeAttributes, writeScope } from './write-attributes.ts';

/*
 * The SDK's own serializer answers the same bytes (a test holds the two against each other) of data that is made for it, an
 * object for each point; it goes over all twice, and writes what never changes anew each time. An agent serializes all the time,
 * on a host that is other people's.
 *
 * Field numbers: https://github.com/open-telemetry/opentelemetry-proto/blob/v1.7.0/opentelemetry/proto/metrics/v1/metrics.proto
 */

const writer = createBackwardWriter();
/** The field `resource` of a ResourceMetrics. */
const resources = new WeakMap<PointAttributes, Uint8Array>();
/** The fields `name`, `description` and `unit` of a Metric. */
const descriptors = new WeakMap<CustomMetric, Uint8Array>();
/** The field `attributes` of a data point, by its number, of those that are frozen. */
const frozen: Readonly<Record<AttributesField, WeakMap<PointAttributes, Uint8Array>>> = {
  7: new WeakMap(),
  9: new WeakMap(),
  1: new WeakMap(),
};
/** Of a NumberDataPoint, a HistogramDataPoint, and an ExponentialHistogramDataPoint. */
type AttributesField = 7 | 9 | 1;

/**
 * Where in what was written the fields of one point stand that change from one export to the next, in bytes before its end. Each
 * has a fixed length, so that the next export can be written over the last. `value`: of a number, or of the count of an
 * explicit histogram; before it stand the time and the start, after a count the sum where there is one. `counts`: of the
 * first bucket.
 */
export type PointPlace = { readonly value: number; readonly counts: number };

/** What became of a sample, and where it stands; null for an exponential histogram, whose buckets are of any length. */
export type Noted = { readonly shaped: Shaped; readonly place: PointPlace | null };

/** One export of one resource, while it is written. `noted`: by the index of a sample. */
type Export = {
  readonly samples: readonly Sample[];
  readonly shape: Shaper;
  readonly isDelta: boolean;
  readonly resolution: HistogramResolution;
  readonly now: number;
  readonly end: Nanoseconds;
  readonly noted: Noted[] | null;
};

/**
 * One ExportMetricsServiceRequest with what is told of one resource at a time (seconds since the epoch), by metric in the order
 * of their first sample; several requests, one after another, are one as well. Values are doubles; exemplars, min and max are
 * not written. `noted`: gets what became of each sample.
 * @throws TypeError for an attribute that is no AnyValue
 */
export function writeMetrics(
  telling: Telling,
  samples: readonly Sample[],
  now: number,
  noted: Noted[] | null = null,
): Uint8Array {
  const { scope, resource, temporal, resolution } = telling;
  const one: Export = {
    samples,
    shape: createShaper(telling),
    isDelta: temporal.temporality === 'delta',
    resolution: resolution(),
    now,
    end: nanoseconds(now),
    noted,
  };
  try {
    writer.string(3, schemaUrl);
    backwards(groupsOf(samples), group => writeMetric(one, group));
    writeScope(writer, scope);
    writer.begin(2, 0);
    remembered(resources, resource, writeResource);
    writer.begin(1, 0);
    return writer.take();
  } catch (error) {
    // What was written so far is no part of the next.
    writer.take();
    throw error;
  }
}

/** Samples of one metric, by their indexes: the first, the last, and from each the one before it by `before`. */
type Group = { readonly metric: CustomMetric; readonly first: number; last: number };

/** The sample of the same metric before this one. One list for all exports. */
let before = new Int32Array(256);

/** In the order of their first samples. */
function groupsOf(samples: readonly Sample[]): readonly Group[] {
  if (before.length < samples.length) before = new Int32Array(2 * samples.length);
  const groups = new Map<string, Group>();
  for (let i = 0; i < samples.length; i += 1) {
    const metric = described(samples[i] as Sample);
    const group = groups.get(metric.name);
    before[i] = group ? group.last : -1;
    if (group) group.last = i;
    else groups.set(metric.name, { metric, first: i, last: i });
  }
  return [...groups.values()];
}

function remembered<K extends object>(
  known: WeakMap<K, Uint8Array>,
  key: K,
  write: (key: K) => void,
): void {
  const bytes = known.get(key);
  if (bytes) {
    writer.raw(bytes);
    return;
  }
  const mark = writer.mark();
  write(key);
  known.set(key, writer.since(mark));
}

function writeResource(resource: PointAttributes): void {
  const end = writer.mark();
  writer.varint(2, 0);
  writeAttributes(writer, 1, resource);
  writer.begin(1, end);
}

function writeDescriptor({ name, description, unit }: CustomMetric): void {
  if (unit) writer.string(3, unit);
  if (description) writer.string(2, description);
  writer.string(1, name);
}

/** The number of each kind's field in a Metric. */
const fieldOf = { gauge: 5, counter: 7, explicit: 9, exponential: 10 };

function kindOf(sample: Sample, { type }: CustomMetric, resolution: HistogramResolution) {
  const { value } = sample;
  if (typeof value === 'number') return type === 'gauge' ? 'gauge' : 'counter';
  return resolution === 'exponential' ? value.kind : 'explicit';
}

function writeMetric(one: Export, { metric, first, last }: Group): void {
  const end = writer.mark();
  const kind = kindOf(one.samples[first] as Sample, metric, one.resolution);
  if (kind === 'counter') writer.varint(3, 1);
  if (kind !== 'gauge') writer.varint(2, one.isDelta ? 1 : 2);
  for (let i = last; i >= 0; i = before[i] ?? -1) writePoint(one, i);
  writer.begin(fieldOf[kind], end);
  remembered(descriptors, metric, writeDescriptor);
  writer.begin(2, end);
}

function writePoint(one: Export, i: number): void {
  const sample = one.samples[i] as Sample;
  const shaped = one.shape(sample, one.now, one.resolution);
  const { value } = shaped;
  let place: PointPlace | null = null;
  if (typeof value === 'number') place = writeNumber(one, shaped.start, value, sample);
  else if (value.kind === 'explicit') place = writeHistogram(one, shaped.start, value, sample);
  else writeExponential(one, shaped.start, value, sample);
  if (one.noted) one.noted[i] = { shaped, place };
}

function writeAllAttributes(field: AttributesField, { attributes, more }: Sample): void {
  if (more) writeSome(field, more);
  if (attributes) writeSome(field, attributes);
}

function writeSome(field: AttributesField, attributes: PointAttributes): void {
  const known = frozen[field].get(attributes);
  if (known) {
    writer.raw(known);
    return;
  }
  const mark = writer.mark();
  writeAttributes(writer, field, attributes);
  if (Object.isFrozen(attributes)) frozen[field].set(attributes, writer.since(mark));
}

function writeNumber(one: Export, start: number, value: number, sample: Sample): PointPlace | null {
  const end = writer.mark();
  writeAllAttributes(7, sample);
  const place = one.noted ? { value: writer.mark() + 8, counts: 0 } : null;
  writer.double(4, value);
  writeTimes(start, one.end);
  writer.begin(1, end);
  return place;
}

function writeHistogram(
  one: Export,
  start: number,
  { count, sum, bounds, counts }: ExplicitHistogram,
  sample: Sample,
): PointPlace | null {
  const end = writer.mark();
  writeAllAttributes(9, sample);
  if (bounds.length > 0) writer.packedDoubles(7, bounds);
  const countsAt = writer.mark() + 8 * counts.length;
  if (counts.length > 0) writer.packedCounts(6, counts);
  // NaN: it is not known, and is left out.
  if (!Number.isNaN(sum)) writer.double(5, sum);
  const place = one.noted ? { value: writer.mark() + 8, counts: countsAt } : null;
  writer.count(4, count);
  writeTimes(start, one.end);
  writer.begin(1, end);
  return place;
}

function writeExponential(
  one: Export,
  start: number,
  { count, sum, scale, zeroCount, offset, counts }: ExponentialHistogram,
  sample: Sample,
): void {
  const end = writer.mark();
  // Of negative values there are none.
  writer.begin(9, end);
  const positive = writer.mark();
  if (counts.length > 0) writer.packedVarints(2, counts);
  if (offset !== 0) writer.sint32(1, offset);
  writer.begin(8, positive);
  writer.count(7, zeroCount);
  if (scale !== 0) writer.sint32(6, scale);
  writer.double(5, sum);
  writer.count(4, count);
  writeTimes(start, one.end);
  writeAllAttributes(1, sample);
  writer.begin(1, end);
}

/** Most points of an export have the start of the one before. */
let [lastStart, lastStartNs] = [0, nanoseconds(0)];

function writeTimes(start: number, end: Nanoseconds): void {
  if (start !== lastStart) [lastStart, lastStartNs] = [start, nanoseconds(start)];
  writer.halves(3, end.low, end.high);
  writer.halves(2, lastStartNs.low, lastStartNs.high);
}
