import { type Nanoseconds, nanoseconds } from './nanoseconds.ts';
import { createShaper, type Sample, type Shaped, type Telling } from './sample.ts';
import { type Noted, type PointPlace, writeMetrics } from './write-metrics.ts';

/**
 * Writes one ExportMetricsServiceRequest with what is told of a resource at a time (seconds since the epoch). The bytes hold
 * until the next one is written.
 * @throws TypeError for an attribute that is no AnyValue
 */
export type ResourceWriter = (samples: readonly Sample[], now: number) => Uint8Array;

/**
 * The same bytes as `writeMetrics`. While the series are the same ones, only their times and values are written, over those of
 * the last time: of a point most is what never changes.
 */
export function createResourceWriter(telling: Telling): ResourceWriter {
  const shape = createShaper(telling);
  let last: Written | null = null;

  const overwrite = (written: Written, samples: readonly Sample[], now: number): boolean => {
    if (!isSame(written, samples)) return false;
    const time = nanoseconds(now);
    const resolution = telling.resolution();
    for (let i = 0; i < samples.length; i += 1) {
      const shaped = shape(samples[i] as Sample, now, resolution);
      if (!writePoint(written.view, written.points[i] as Point, shaped, time)) return false;
    }
    return true;
  };

  return (samples, now) => {
    if (last === null || !overwrite(last, samples, now)) {
      const noted: Noted[] = [];
      last = writtenOf(writeMetrics(telling, samples, now, noted), samples, noted);
    }
    return last.bytes;
  };
}

type Written = {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly points: readonly Point[];
};

/** `place` counts from the beginning; null where the point cannot be written over. `start`, `value`: what stands there. */
type Point = {
  readonly metric: Sample['metric'];
  readonly place: PointPlace | null;
  attributes: Sample['attributes'];
  readonly more: Sample['more'];
  start: number;
  readonly value: Shaped['value'];
};

function writtenOf(
  bytes: Uint8Array,
  samples: readonly Sample[],
  noted: readonly Noted[],
): Written {
  const points = samples.map(({ metric, attributes, more }, i): Point => {
    const { shaped, place } = noted[i] as Noted;
    return {
      ...{ metric, attributes, more },
      place: place && {
        value: bytes.length - place.value,
        counts: bytes.length - place.counts,
      },
      start: shaped.start,
      value: shaped.value,
    };
  });
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), points };
}

function isSame({ points }: Written, samples: readonly Sample[]): boolean {
  if (points.length !== samples.length) return false;
  for (let i = 0; i < points.length; i += 1) {
    const point = points[i] as Point;
    const { metric, attributes, more } = samples[i] as Sample;
    if (point.metric !== metric || point.more !== more || point.place === null) return false;
    if (point.attributes === attributes) continue;
    if (JSON.stringify(point.attributes) !== JSON.stringify(attributes)) return false;
    // Most sources have one object for a series: the next time it is known at once.
    point.attributes = attributes;
  }
  return true;
}

/** False: what is told now is of another length. */
function writePoint(
  view: DataView,
  point: Point,
  { start, value }: Shaped,
  time: Nanoseconds,
): boolean {
  const { value: at, counts } = point.place as PointPlace;
  if (typeof value === 'number') {
    if (typeof point.value !== 'number') return false;
    view.setFloat64(at, value, true);
  } else {
    if (!isSameShape(point.value, value)) return false;
    writeCount(view, at, value.count);
    // The tag of a field stands before it.
    if (!Number.isNaN(value.sum)) view.setFloat64(at + 9, value.sum, true);
    for (let i = 0; i < value.counts.length; i += 1)
      writeCount(view, counts + 8 * i, value.counts[i] ?? 0);
  }
  writeTime(view, at - 9, time);
  if (point.start !== start) {
    point.start = start;
    writeTime(view, at - 18, nanoseconds(start));
  }
  return true;
}

function isSameShape(before: Shaped['value'], now: Exclude<Shaped['value'], number>): boolean {
  return (
    typeof before !== 'number' &&
    before.kind === 'explicit' &&
    now.kind === 'explicit' &&
    before.bounds === now.bounds &&
    before.counts.length === now.counts.length &&
    Number.isNaN(before.sum) === Number.isNaN(now.sum)
  );
}

function writeTime(view: DataView, at: number, { low, high }: Nanoseconds): void {
  view.setUint32(at, low, true);
  view.setUint32(at + 4, high, true);
}

function writeCount(view: DataView, at: number, count: number): void {
  view.setUint32(at, count % 4_294_967_296, true);
  view.setUint32(at + 4, Math.floor(count / 4_294_967_296), true);
}
