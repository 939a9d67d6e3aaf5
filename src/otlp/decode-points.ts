import type { Attributes, ExplicitHistogram, ExponentialHistogram } from '../contract/telemetry.ts';
import { type MutableAttributes, readKeyValue, readTime, tag } from './decode-common.ts';
import {
  type Cursor,
  readDouble,
  readFixed64,
  readLength,
  readMessage,
  readSignedFixed64,
  readVarint,
  readZigzag,
} from './protobuf-reader.ts';

/** Why a metric or a point was left out. */
export type SkipReason =
  | 'summary'
  | 'no-value'
  | 'not-finite'
  | 'no-time'
  | 'no-temporality'
  | 'negative-values'
  | 'bucket-count';

/** How many were left out, by reason. */
export type Skipped = { [reason in SkipReason]?: number };

export type PointValue = number | ExplicitHistogram | ExponentialHistogram;
export type PointRead = {
  readonly attributes: Attributes;
  readonly start: number;
  readonly time: number;
  readonly value: PointValue;
};

/** One data point, or why it is left out. */
export type ReadPoint = (cursor: Cursor) => PointRead | SkipReason;

/** DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK */
const noRecordedValue = 1;

/** NumberDataPoint. */
export function readNumberPoint(cursor: Cursor): PointRead | SkipReason {
  const attributes: MutableAttributes = {};
  let start = 0;
  let time = 0;
  let flags = 0;
  let value: number | null = null;
  readMessage(cursor, field => {
    switch (field) {
      case tag.fixed64(2):
        start = readTime(cursor);
        return true;
      case tag.fixed64(3):
        time = readTime(cursor);
        return true;
      case tag.fixed64(4):
        value = readDouble(cursor);
        return true;
      case tag.fixed64(6):
        value = readSignedFixed64(cursor);
        return true;
      case tag.bytes(7):
        readKeyValue(cursor, attributes);
        return true;
      case tag.varint(8):
        flags = readVarint(cursor);
        return true;
      default:
        return false;
    }
  });
  if (flags % 2 === noRecordedValue || value === null) return 'no-value';
  // NaN and infinity would go on through every sum and forecast that they meet.
  if (!Number.isFinite(value)) return 'not-finite';
  return time === 0 ? 'no-time' : { attributes, start, time, value };
}

/** HistogramDataPoint. A sum that was left out is NaN; without buckets all counts are in one. */
export function readHistogramPoint(cursor: Cursor): PointRead | SkipReason {
  const attributes: MutableAttributes = {};
  const counts: number[] = [];
  const bounds: number[] = [];
  let start = 0;
  let time = 0;
  let flags = 0;
  let count = 0;
  let sum = Number.NaN;
  readMessage(cursor, field => {
    switch (field) {
      case tag.fixed64(2):
        start = readTime(cursor);
        return true;
      case tag.fixed64(3):
        time = readTime(cursor);
        return true;
      case tag.fixed64(4):
        count = readFixed64(cursor);
        return true;
      case tag.fixed64(5):
        sum = readDouble(cursor);
        return true;
      case tag.bytes(6):
        readPacked(cursor, readFixed64, counts);
        return true;
      case tag.fixed64(6):
        counts.push(readFixed64(cursor));
        return true;
      case tag.bytes(7):
        readPacked(cursor, readDouble, bounds);
        return true;
      case tag.fixed64(7):
        bounds.push(readDouble(cursor));
        return true;
      case tag.bytes(9):
        readKeyValue(cursor, attributes);
        return true;
      case tag.varint(10):
        flags = readVarint(cursor);
        return true;
      default:
        return false;
    }
  });
  if (flags % 2 === noRecordedValue) return 'no-value';
  if (time === 0) return 'no-time';
  if (counts.length === 0 && bounds.length === 0) counts.push(count);
  if (counts.length !== bounds.length + 1) return 'bucket-count';
  return { attributes, start, time, value: { kind: 'explicit', count, sum, bounds, counts } };
}

/** ExponentialHistogramDataPoint. A sum that was left out is NaN. */
export function readExponentialPoint(cursor: Cursor): PointRead | SkipReason {
  const attributes: MutableAttributes = {};
  let positive: Buckets = { offset: 0, counts: [] };
  let negative: Buckets = { offset: 0, counts: [] };
  let start = 0;
  let time = 0;
  let flags = 0;
  let count = 0;
  let sum = Number.NaN;
  let scale = 0;
  let zeroCount = 0;
  readMessage(cursor, field => {
    switch (field) {
      case tag.bytes(1):
        readKeyValue(cursor, attributes);
        return true;
      case tag.fixed64(2):
        start = readTime(cursor);
        return true;
      case tag.fixed64(3):
        time = readTime(cursor);
        return true;
      case tag.fixed64(4):
        count = readFixed64(cursor);
        return true;
      case tag.fixed64(5):
        sum = readDouble(cursor);
        return true;
      case tag.varint(6):
        scale = readZigzag(cursor);
        return true;
      case tag.fixed64(7):
        zeroCount = readFixed64(cursor);
        return true;
      case tag.bytes(8):
        positive = readBuckets(cursor);
        return true;
      case tag.bytes(9):
        negative = readBuckets(cursor);
        return true;
      case tag.varint(10):
        flags = readVarint(cursor);
        return true;
      default:
        return false;
    }
  });
  if (flags % 2 === noRecordedValue) return 'no-value';
  if (time === 0) return 'no-time';
  if (negative.counts.some(n => n > 0)) return 'negative-values';
  const { offset, counts } = positive;
  const value = { kind: 'exponential', count, sum, scale, zeroCount, offset, counts } as const;
  return { attributes, start, time, value };
}

type Buckets = { offset: number; counts: number[] };

function readBuckets(cursor: Cursor): Buckets {
  const buckets: Buckets = { offset: 0, counts: [] };
  readMessage(cursor, field => {
    if (field === tag.varint(1)) buckets.offset = readZigzag(cursor);
    else if (field === tag.bytes(2)) readPacked(cursor, readVarint, buckets.counts);
    else if (field === tag.varint(2)) buckets.counts.push(readVarint(cursor));
    else return false;
    return true;
  });
  return buckets;
}

/** A packed repeated field; it grows by what was read, never by what a length claims. */
function readPacked(cursor: Cursor, read: (cursor: Cursor) => number, into: number[]): void {
  const end = readLength(cursor);
  const outer = cursor.end;
  cursor.end = end;
  while (cursor.pos < end) into.push(read(cursor));
  cursor.end = outer;
}
