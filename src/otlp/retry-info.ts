import { tag } from './decode-common.ts';
import {
  type Cursor,
  cursorOver,
  readFields,
  readMessage,
  readSignedVarint,
  readString,
} from './protobuf-reader.ts';
import { bytesField, stringField, varintField } from './protobuf-writer.ts';

/** The metadata key that carries a google.rpc.Status. */
export const statusDetailsKey = 'grpc-status-details-bin';

const retryInfoType = 'type.googleapis.com/google.rpc.RetryInfo';

/**
 * A google.rpc.Status with a RetryInfo, as the OTLP specification asks for when a receiver is full.
 * @see https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-throttling
 */
export function encodeRetryStatus(code: number, message: string, afterSeconds: number): Buffer {
  const whole = Math.floor(afterSeconds);
  const nanos = Math.round((afterSeconds - whole) * 1e9);
  const duration = Buffer.concat([varintField(1, whole), varintField(2, nanos)]);
  const any = Buffer.concat([
    stringField(1, retryInfoType),
    bytesField(2, bytesField(1, duration)),
  ]);
  return Buffer.concat([varintField(1, code), stringField(2, message), bytesField(3, any)]);
}

/**
 * The delay in seconds that a google.rpc.Status asks for, never below 0; null when it has no RetryInfo.
 * @throws ProtocolError OTLP_MALFORMED
 */
export function decodeRetryStatus(status: Uint8Array): number | null {
  const cursor = cursorOver(status);
  let seconds: number | null = null;
  readFields(cursor, cursor.end, field => {
    if (field !== tag.bytes(3)) return false;
    seconds = readAny(cursor) ?? seconds;
    return true;
  });
  return seconds;
}

function readAny(cursor: Cursor): number | null {
  let type = '';
  let seconds: number | null = null;
  readMessage(cursor, field => {
    if (field === tag.bytes(1)) type = readString(cursor);
    else if (field === tag.bytes(2) && type === retryInfoType) seconds = readRetryInfo(cursor);
    else return false;
    return true;
  });
  return seconds;
}

function readRetryInfo(cursor: Cursor): number {
  let seconds = 0;
  readMessage(cursor, field => {
    if (field !== tag.bytes(1)) return false;
    readMessage(cursor, inner => {
      if (inner === tag.varint(1)) seconds += readSignedVarint(cursor);
      else if (inner === tag.varint(2)) seconds += readSignedVarint(cursor) / 1e9;
      else return false;
      return true;
    });
    return true;
  });
  return Math.max(0, seconds);
}
