import type { AttributeValue, LogEvent } from '../contract/telemetry.ts';
import {
  type MutableAttributes,
  readAnyValue,
  readKeyValue,
  readResource,
  readScopeName,
  readTime,
  tag,
} from './decode-common.ts';
import { type Cursor, cursorOver, readFields, readMessage, readString } from './protobuf-reader.ts';

/**
 * The events of an ExportLogsServiceRequest, in their order; `skipped` gets the number of log records that have no
 * event name, which are left out. A record without a time has the time at which it was observed.
 * @throws ProtocolError OTLP_MALFORMED with the byte offset
 * @see https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/logs/v1/logs.proto
 */
export function decodeLogs(request: Uint8Array, skipped?: { unnamed: number }): LogEvent[] {
  const cursor = cursorOver(request);
  const events: LogEvent[] = [];
  let unnamed = 0;
  readFields(cursor, cursor.end, field => {
    if (field !== tag.bytes(1)) return false;
    unnamed += readResourceLogs(cursor, events);
    return true;
  });
  if (skipped) skipped.unnamed += unnamed;
  return events;
}

function readResourceLogs(cursor: Cursor, events: LogEvent[]): number {
  // Filled while events already refer to it: the resource may follow its records.
  const resource: MutableAttributes = {};
  let unnamed = 0;
  readMessage(cursor, field => {
    if (field === tag.bytes(1)) readResource(cursor, resource);
    else if (field === tag.bytes(2)) unnamed += readScopeLogs(cursor, resource, events);
    else return false;
    return true;
  });
  return unnamed;
}

function readScopeLogs(cursor: Cursor, resource: MutableAttributes, events: LogEvent[]): number {
  const first = events.length;
  let scope = '';
  let unnamed = 0;
  readMessage(cursor, field => {
    if (field === tag.bytes(1)) scope = readScopeName(cursor);
    else if (field === tag.bytes(2)) {
      const event = readRecord(cursor, resource, scope);
      if (event) events.push(event);
      else unnamed++;
    } else return false;
    return true;
  });
  for (let i = first; i < events.length; i++) {
    const event = events[i];
    if (event && event.scope !== scope) events[i] = { ...event, scope };
  }
  return unnamed;
}

function readRecord(cursor: Cursor, resource: MutableAttributes, scope: string): LogEvent | null {
  const attributes: MutableAttributes = {};
  let eventName = '';
  let time = 0;
  let observed = 0;
  let body: AttributeValue = null;
  readMessage(cursor, field => {
    switch (field) {
      case tag.fixed64(1):
        time = readTime(cursor);
        return true;
      case tag.bytes(5):
        body = readAnyValue(cursor);
        return true;
      case tag.bytes(6):
        readKeyValue(cursor, attributes);
        return true;
      case tag.fixed64(11):
        observed = readTime(cursor);
        return true;
      case tag.bytes(12):
        eventName = readString(cursor);
        return true;
      default:
        return false;
    }
  });
  if (eventName === '') return null;
  return { eventName, time: time || observed, body: textOf(body), attributes, resource, scope };
}

/** Bodies of ours are sentences; another one is shown as JSON. */
function textOf(body: AttributeValue): string {
  if (typeof body === 'string') return body;
  return body === null ? '' : JSON.stringify(body);
}
