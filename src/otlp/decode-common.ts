import type { Attributes, AttributeValue } from '../contract/telemetry.ts';
import {
  type Cursor,
  malformed,
  maxDepth,
  readBytes,
  readDouble,
  readFixed64,
  readMessage,
  readSignedVarint,
  readString,
  readVarint,
} from './protobuf-reader.ts';

export type MutableAttributes = Record<string, AttributeValue>;

/** Tag of field `n` as wire type varint, fixed64, length-delimited. */
export const tag = {
  varint: (field: number) => field * 8,
  fixed64: (field: number) => field * 8 + 1,
  bytes: (field: number) => field * 8 + 2,
} as const;

const keyTag = tag.bytes(1);
const valueTag = tag.bytes(2);

/** A KeyValue into `attributes`; a key that comes twice keeps the last value. */
export function readKeyValue(cursor: Cursor, attributes: MutableAttributes, depth = 0): void {
  let key = '';
  let value: AttributeValue = null;
  readMessage(cursor, field => {
    if (field === keyTag) key = readString(cursor);
    else if (field === valueTag) value = readAnyValue(cursor, depth);
    else return false;
    return true;
  });
  setOwn(attributes, key, value);
}

/** An AnyValue; null when nothing is set in it. int64 becomes a JS number, exact within ±2^53. */
export function readAnyValue(cursor: Cursor, depth = 0): AttributeValue {
  if (depth >= maxDepth) malformed(cursor.pos, `at most ${maxDepth} nested values`, 'more');
  let value: AttributeValue = null;
  readMessage(cursor, field => {
    switch (field) {
      case tag.bytes(1):
        value = readString(cursor);
        return true;
      case tag.varint(2):
        value = readVarint(cursor) !== 0;
        return true;
      case tag.varint(3):
        value = readSignedVarint(cursor);
        return true;
      case tag.fixed64(4):
        value = readDouble(cursor);
        return true;
      case tag.bytes(5):
        value = readArray(cursor, depth + 1);
        return true;
      case tag.bytes(6):
        value = readMap(cursor, depth + 1);
        return true;
      case tag.bytes(7):
        value = readBytes(cursor);
        return true;
      default:
        return false;
    }
  });
  return value;
}

function readArray(cursor: Cursor, depth: number): AttributeValue[] {
  const values: AttributeValue[] = [];
  readMessage(cursor, field => {
    if (field !== tag.bytes(1)) return false;
    values.push(readAnyValue(cursor, depth));
    return true;
  });
  return values;
}

function readMap(cursor: Cursor, depth: number): Attributes {
  const map: MutableAttributes = {};
  readMessage(cursor, field => {
    if (field !== tag.bytes(1)) return false;
    readKeyValue(cursor, map, depth);
    return true;
  });
  return map;
}

/** `key = value`, but never the prototype: keys come from outside. */
function setOwn(map: MutableAttributes, key: string, value: AttributeValue): void {
  if (key === '__proto__') {
    Object.defineProperty(map, key, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
  } else map[key] = value;
}

/** The attributes of a Resource. */
export function readResource(cursor: Cursor, attributes: MutableAttributes): void {
  readMessage(cursor, field => {
    if (field !== tag.bytes(1)) return false;
    readKeyValue(cursor, attributes);
    return true;
  });
}

/** The name of an InstrumentationScope. */
export function readScopeName(cursor: Cursor): string {
  let name = '';
  readMessage(cursor, field => {
    if (field !== tag.bytes(1)) return false;
    name = readString(cursor);
    return true;
  });
  return name;
}

/** A time in nanoseconds as seconds since the epoch. */
export function readTime(cursor: Cursor): number {
  return readFixed64(cursor) / 1e9;
}
