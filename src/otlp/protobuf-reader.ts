import { isUtf8 } from 'node:buffer';
import { ProtocolError } from '../contract/errors.ts';

/** A position in protobuf bytes; `end` bounds the message that is being read, so that a nested one cannot leave it. */
export type Cursor = {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** Whether strings that are not UTF-8 are malformed. */
  readonly strict: boolean;
  pos: number;
  end: number;
};

/** Wire types of protobuf: https://protobuf.dev/programming-guides/encoding/#structure */
export const wire = {
  varint: 0,
  fixed64: 1,
  bytes: 2,
  groupStart: 3,
  groupEnd: 4,
  fixed32: 5,
} as const;

/** Deepest nesting of groups and of AnyValue that is read; a stack is finite, and no honest sender comes near. */
export const maxDepth = 64;

const two32 = 4_294_967_296;

export function cursorOver(bytes: Uint8Array, strict = false): Cursor {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    bytes: buffer,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    strict,
    pos: 0,
    end: bytes.byteLength,
  };
}

/** @throws ProtocolError OTLP_MALFORMED, always: the offset is in the message and in `context.at`. */
export function malformed(at: number, wanted: string, got: string): never {
  throw new ProtocolError('OTLP_MALFORMED', `byte ${at}: wanted ${wanted}, got ${got}`, {
    at,
    wanted,
    got,
  });
}

/** The next tag, (field << 3) | wire type. Field numbers above 2^29 − 1 and 0 are refused. */
export function readTag(cursor: Cursor): number {
  const at = cursor.pos;
  const first = cursor.bytes[at];
  // Nearly all tags of OTLP are one byte.
  if (at < cursor.end && first !== undefined && first >= 8 && first < 128) {
    cursor.pos = at + 1;
    return first;
  }
  const tag = readVarint(cursor);
  if (tag < 8 || tag >= two32) malformed(at, 'a field tag', String(tag));
  return tag;
}

/** An unsigned varint of at most 64 bits; above 2^53 the nearest double. */
export function readVarint(cursor: Cursor): number {
  const { bytes, end } = cursor;
  const start = cursor.pos;
  let pos = start;
  let scale = 1;
  let value = 0;
  for (let i = 0; i < 10; i++) {
    if (pos >= end) malformed(start, 'a varint', 'the end of the message');
    const byte = bytes[pos++] as number;
    value += (byte & 127) * scale;
    if (byte < 128) {
      cursor.pos = pos;
      return value;
    }
    scale *= 128;
  }
  return malformed(start, 'a varint of at most 10 bytes', 'a longer one');
}

/** An int64 or int32 as a varint: two's complement in 64 bits; outside ±2^53 the nearest double. */
export function readSignedVarint(cursor: Cursor): number {
  const start = cursor.pos;
  const value = readVarint(cursor);
  // Small ones dominate; a negative one always has 10 bytes.
  if (cursor.pos - start < 10) return value;
  let big = 0n;
  for (let pos = cursor.pos - 1; pos >= start; pos--) {
    big = (big << 7n) | BigInt((cursor.bytes[pos] as number) & 127);
  }
  return Number(BigInt.asIntN(64, big));
}

/** A sint32 (zigzag). */
export function readZigzag(cursor: Cursor): number {
  const value = readVarint(cursor);
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

/** A fixed64; above 2^53 the nearest double. */
export function readFixed64(cursor: Cursor): number {
  const at = advance(cursor, 8, 'a fixed64');
  return cursor.view.getUint32(at, true) + cursor.view.getUint32(at + 4, true) * two32;
}

/** An sfixed64; outside ±2^53 the nearest double. */
export function readSignedFixed64(cursor: Cursor): number {
  const at = advance(cursor, 8, 'an sfixed64');
  return cursor.view.getUint32(at, true) + cursor.view.getInt32(at + 4, true) * two32;
}

export function readDouble(cursor: Cursor): number {
  return cursor.view.getFloat64(advance(cursor, 8, 'a double'), true);
}

/** Where a length-delimited field ends; the cursor stands at its first byte. */
export function readLength(cursor: Cursor): number {
  const at = cursor.pos;
  const length = readVarint(cursor);
  if (length > cursor.end - cursor.pos) {
    malformed(at, `${length} bytes of a field`, `${cursor.end - cursor.pos} left in the message`);
  }
  return cursor.pos + length;
}

/** A string; bytes that are not UTF-8 become U+FFFD, or are malformed to a strict cursor. */
export function readString(cursor: Cursor): string {
  const end = readLength(cursor);
  if (cursor.strict) mustBeUtf8(cursor, end);
  const text = cursor.bytes.toString('utf8', cursor.pos, end);
  cursor.pos = end;
  return text;
}

/** @throws ProtocolError OTLP_MALFORMED when what is between the cursor and `end` is not UTF-8 */
export function mustBeUtf8({ bytes, pos }: Cursor, end: number): void {
  if (!isUtf8(bytes.subarray(pos, end))) malformed(pos, 'UTF-8', 'a string of other bytes');
}

/** A copy of a bytes field: the request it came in is not kept alive by it. */
export function readBytes(cursor: Cursor): Uint8Array {
  const end = readLength(cursor);
  const copy = new Uint8Array(cursor.bytes.subarray(cursor.pos, end));
  cursor.pos = end;
  return copy;
}

/**
 * Reads a nested message: `field(tag)` is called for each tag and answers false for a field that it did not read,
 * which is then skipped.
 */
export function readMessage(cursor: Cursor, field: (tag: number) => boolean): void {
  const end = readLength(cursor);
  readFields(cursor, end, field);
}

/** As `readMessage`, from the cursor up to `end`, which is within the present bound. */
export function readFields(cursor: Cursor, end: number, field: (tag: number) => boolean): void {
  const outer = cursor.end;
  cursor.end = end;
  while (cursor.pos < end) {
    const tag = readTag(cursor);
    if (!field(tag)) skipField(cursor, tag);
  }
  cursor.end = outer;
}

/** Skips a field of any wire type; groups too, to a bounded depth. */
export function skipField(cursor: Cursor, tag: number, depth = 0): void {
  switch (tag & 7) {
    case wire.varint:
      readVarint(cursor);
      return;
    case wire.fixed64:
      advance(cursor, 8, 'a fixed64');
      return;
    case wire.bytes:
      cursor.pos = readLength(cursor);
      return;
    case wire.groupStart:
      skipGroup(cursor, tag >>> 3, depth);
      return;
    case wire.fixed32:
      advance(cursor, 4, 'a fixed32');
      return;
    default:
      malformed(cursor.pos, 'a wire type of 0, 1, 2, 3 or 5', String(tag & 7));
  }
}

function skipGroup(cursor: Cursor, field: number, depth: number): void {
  if (depth >= maxDepth) malformed(cursor.pos, `at most ${maxDepth} nested groups`, 'more');
  for (;;) {
    const tag = readTag(cursor);
    if ((tag & 7) === wire.groupEnd) {
      if (tag >>> 3 === field) return;
      malformed(cursor.pos, `the end of group ${field}`, `the end of group ${tag >>> 3}`);
    }
    skipField(cursor, tag, depth + 1);
  }
}

function advance(cursor: Cursor, bytes: number, wanted: string): number {
  const at = cursor.pos;
  if (cursor.end - at < bytes) malformed(at, wanted, `${cursor.end - at} bytes to the end`);
  cursor.pos = at + bytes;
  return at;
}
