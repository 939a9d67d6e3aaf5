import { tag } from './decode-common.ts';
import {
  cursorOver,
  readFields,
  readMessage,
  readSignedVarint,
  readString,
} from './protobuf-reader.ts';
import { bytesField, stringField, varintField } from './protobuf-writer.ts';

export type PartialSuccess = { readonly rejected: number; readonly message: string };

/** An Export{Metrics,Logs}ServiceResponse (the two are alike); null: everything was taken. */
export function encodeExportResponse(partial: PartialSuccess | null): Buffer {
  if (!partial) return Buffer.alloc(0);
  const fields = [varintField(1, partial.rejected), stringField(2, partial.message)];
  return bytesField(1, Buffer.concat(fields));
}

/** @throws ProtocolError OTLP_MALFORMED */
export function decodeExportResponse(response: Uint8Array): PartialSuccess {
  const cursor = cursorOver(response);
  let rejected = 0;
  let message = '';
  readFields(cursor, cursor.end, field => {
    if (field !== tag.bytes(1)) return false;
    readMessage(cursor, inner => {
      if (inner === tag.varint(1)) rejected = readSignedVarint(cursor);
      else if (inner === tag.bytes(2)) message = readString(cursor);
      else return false;
      return true;
    });
    return true;
  });
  return { rejected, message };
}
