import { schemaUrl } from '../contract/metrics.ts';
import { createBackwardWriter } from './backward-writer.ts';
import { writeAnyValue, writeAttributes, writeScope } from './write-attributes.ts';

/*
 * As of write-metrics.ts: the bytes are those of the SDK's serializer (a test holds the two against each other), which goes
 * over everything twice. A placement lists all tasks of an instance, and is told of each once a minute.
 *
 * Field numbers: https://github.com/open-telemetry/opentelemetry-proto/blob/v1.7.0/opentelemetry/proto/logs/v1/logs.proto
 */

/** One log record with the resource and the scope it is of. */
export type WrittenEvent = {
  readonly resource: Readonly<Record<string, unknown>>;
  readonly scope: string;
  readonly eventName: string;
  readonly body: string;
  readonly severity: { readonly number: number; readonly text: string };
  /** Those that are undefined are left out, however deep. */
  readonly attributes: Readonly<Record<string, unknown>>;
  /** When it happened, since the epoch. */
  readonly unixNanoseconds: bigint;
  /** When it was seen. */
  readonly observedUnixNanoseconds: bigint;
};

const writer = createBackwardWriter();

/**
 * An ExportLogsServiceRequest of one record.
 * @throws TypeError for an attribute that is no AnyValue
 */
export function writeEvent(event: WrittenEvent): Uint8Array {
  try {
    writer.string(3, schemaUrl);
    writeRecord(event);
    writeScope(writer, event.scope);
    writer.begin(2, 0);
    const resourceEnd = writer.mark();
    writer.varint(2, 0);
    writeAttributes(writer, 1, event.resource);
    writer.begin(1, resourceEnd);
    writer.begin(1, 0);
    return writer.take();
  } catch (error) {
    // What was written so far is no part of the next.
    writer.take();
    throw error;
  }
}

function writeRecord({
  eventName,
  body,
  severity,
  attributes,
  unixNanoseconds,
  observedUnixNanoseconds,
}: WrittenEvent): void {
  const end = writer.mark();
  writer.string(12, eventName);
  writeTime(11, observedUnixNanoseconds);
  writer.varint(7, 0);
  writeAttributes(writer, 6, attributes);
  const bodyEnd = writer.mark();
  writeAnyValue(writer, body, 'body');
  writer.begin(5, bodyEnd);
  writer.string(3, severity.text);
  writer.varint(2, severity.number);
  writeTime(1, unixNanoseconds);
  writer.begin(2, end);
}

function writeTime(field: number, unixNanoseconds: bigint): void {
  writer.halves(field, Number(unixNanoseconds & 0xffff_ffffn), Number(unixNanoseconds >> 32n));
}
