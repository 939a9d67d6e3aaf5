import { type Cursor, readLength, readTag, skipField, wire } from './protobuf-reader.ts';
import { bytesField } from './protobuf-writer.ts';

/** What becomes of a field: `undefined` as it is, `null` dropped, or other content. */
export type Edited = Buffer | null | undefined;

/** Gets each length-delimited field; the cursor stands at its content, which ends at `end`. */
export type EditField = (tag: number, cursor: Cursor, end: number) => Edited;

/**
 * The fields from the cursor up to `end` with some of them edited; null when none was. What is not edited, known or not, is
 * copied byte by byte, in its order. The cursor stands at `end` afterwards.
 * @throws ProtocolError OTLP_MALFORMED with the byte offset
 */
export function rewriteFields(cursor: Cursor, end: number, edit: EditField): Buffer | null {
  const outer = cursor.end;
  cursor.end = end;
  const pieces: Buffer[] = [];
  let edited = false;
  let kept = cursor.pos;
  while (cursor.pos < end) {
    const start = cursor.pos;
    const tag = readTag(cursor);
    if ((tag & 7) !== wire.bytes) {
      skipField(cursor, tag);
      continue;
    }
    const contentEnd = readLength(cursor);
    const result = edit(tag, cursor, contentEnd);
    cursor.pos = contentEnd;
    if (result === undefined) continue;
    edited = true;
    if (start > kept) pieces.push(cursor.bytes.subarray(kept, start));
    if (result) pieces.push(bytesField(tag >>> 3, result));
    kept = contentEnd;
  }
  cursor.end = outer;
  if (!edited) return null;
  if (end > kept) pieces.push(cursor.bytes.subarray(kept, end));
  return Buffer.concat(pieces);
}
