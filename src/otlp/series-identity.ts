import { hash } from 'node:crypto';
import { tag } from './decode-common.ts';
import { type Cursor, readLength, readTag, skipField, wire } from './protobuf-reader.ts';

/** In which fields of a point is what a backend makes series of: attributes, bounds of buckets, quantiles. */
export type PointShape = {
  readonly attributes?: number;
  readonly bounds?: number;
  readonly quantiles?: number;
};

/** Who sends chooses what is hashed: without the secret that the first of them is within, nobody makes two that are the same. */
export type SeriesIdentity = Buffer;

/**
 * What tells a message (a resource, a scope, a metric) from others within the same: all its fields but those that are messages
 * within it (`isWithin`), in the order in which they were sent. The cursor stays where it is.
 */
export function identityWithin(
  outer: SeriesIdentity,
  cursor: Cursor,
  end: number,
  isWithin: (field: number) => boolean,
): SeriesIdentity {
  const pieces = createPieces(outer, cursor.bytes);
  eachField(cursor, end, (field, from) => {
    if (!isWithin(field)) pieces.add(from, cursor.pos);
  });
  return pieces.digest();
}

/** A point within its metric, and how many series it is where a backend has one for each bucket and quantile. */
export function pointIdentity(
  metric: SeriesIdentity,
  shape: PointShape,
  cursor: Cursor,
  end: number,
): { readonly identity: SeriesIdentity; readonly series: number } {
  const pieces = createPieces(metric, cursor.bytes);
  let series = 1;
  eachField(cursor, end, (field, from, content) => {
    const number = field >>> 3;
    if (number === shape.attributes) pieces.add(from, cursor.pos);
    else if (number === shape.bounds) {
      pieces.add(from, cursor.pos);
      // Doubles come packed in one field, or each in its own.
      series += Math.ceil((cursor.pos - content) / doubleBytes);
    } else if (number === shape.quantiles) {
      const { pos } = cursor;
      cursor.pos = content;
      // Which quantile, without its value.
      eachField(cursor, pos, (inner, innerFrom) => {
        if (inner === tag.fixed64(1)) pieces.add(innerFrom, cursor.pos);
      });
      cursor.pos = pos;
      series += 1;
    }
  });
  return { identity: pieces.digest(), series };
}

const doubleBytes = 8;

/** `from` is where the field begins, `content` what is after its tag and length; the cursor stands behind it. */
function eachField(
  cursor: Cursor,
  end: number,
  take: (field: number, from: number, content: number) => void,
): void {
  const { pos: start, end: outer } = cursor;
  cursor.end = end;
  while (cursor.pos < end) {
    const from = cursor.pos;
    const field = readTag(cursor);
    let content = cursor.pos;
    if ((field & 7) === wire.bytes) {
      const contentEnd = readLength(cursor);
      content = cursor.pos;
      cursor.pos = contentEnd;
    } else skipField(cursor, field);
    take(field, from, content);
  }
  cursor.pos = start;
  cursor.end = outer;
}

/** Parts of `bytes`; what stands side by side is one, since a part costs more than what is in it. */
function createPieces(outer: SeriesIdentity, bytes: Buffer) {
  const pieces: Buffer[] = [outer];
  let from = 0;
  let to = 0;
  const end = (): void => {
    if (to > from) pieces.push(bytes.subarray(from, to));
  };
  return {
    add: (start: number, stop: number): void => {
      if (start !== to) {
        end();
        from = start;
      }
      to = stop;
    },
    digest: (): Buffer => {
      end();
      return hash('sha256', Buffer.concat(pieces), 'buffer');
    },
  };
}
