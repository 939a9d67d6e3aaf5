import { attr } from '../contract/metrics.ts';
import type { Mode } from '../contract/policy.ts';
import {
  type Cursor,
  cursorOver,
  readFields,
  readLength,
  readString,
  readTag,
  skipField,
} from '../otlp/protobuf-reader.ts';
import { bytesField, stringField } from '../otlp/protobuf-writer.ts';

export type Destination = 'engine' | 'sculptor';

/** Where each event goes; what is not here goes nowhere. */
const routes: Readonly<Record<string, Destination>> = {
  'sculptor.topology': 'engine',
  'sculptor.placement': 'engine',
  'sculptor.action': 'engine',
  'sculptor.policy': 'engine',
  'sculptor.recommendation': 'sculptor',
  'sculptor.heartbeat': 'sculptor',
  'sculptor.withdrawal': 'sculptor',
};

export type RoutedLogs = {
  /** An Export request of what goes there, null when nothing does. */
  readonly engine: Buffer | null;
  readonly sculptor: Buffer | null;
  readonly records: { readonly engine: number; readonly sculptor: number };
  /** Records that go nowhere: with no event name, or with one that has no route. */
  readonly dropped: { readonly unnamed: number; readonly unrouted: number };
};

/** A message cut into what is around the repeated field 2, and the contents of that field. */
type Cut = { readonly around: readonly Buffer[]; readonly items: readonly Buffer[] };

const requestItem = 10; // ExportLogsServiceRequest.resource_logs, field 1
const nestedItem = 18; // ResourceLogs.scope_logs and ScopeLogs.log_records, field 2
const attributesTag = 50; // LogRecord.attributes, field 6
const eventNameTag = 98; // LogRecord.event_name, field 12
const keyTag = 10; // KeyValue.key, field 1

/**
 * Splits an ExportLogsServiceRequest by event name. Records to the engine keep their bytes; records to the sculptor get
 * the mode stamped on them, and lose a stamp that they came with. Resource and scope go along unchanged.
 * @throws ProtocolError OTLP_MALFORMED with the byte offset (within the part that was read)
 */
export function routeLogs(request: Uint8Array, mode: Mode): RoutedLogs {
  const stamp = bytesField(6, modeAttribute(mode));
  const counts = { engine: 0, sculptor: 0, unnamed: 0, unrouted: 0 };
  const sorted = { engine: [] as Buffer[], sculptor: [] as Buffer[] };
  for (const resourceLogs of cut(request, requestItem).items) {
    const resource = cut(resourceLogs, nestedItem);
    const scopes = { engine: [] as Buffer[], sculptor: [] as Buffer[] };
    for (const scopeLogs of resource.items) {
      const scope = cut(scopeLogs, nestedItem);
      const records = sortRecords(scope.items, stamp, counts);
      for (const to of destinations) add(scopes[to], scope.around, records[to]);
    }
    for (const to of destinations) add(sorted[to], resource.around, scopes[to]);
  }
  const engineOnly = counts.sculptor + counts.unnamed + counts.unrouted === 0;
  return {
    // Nothing was taken out, so nothing needs to be put together again.
    engine: engineOnly && counts.engine > 0 ? Buffer.from(request) : requestOf(sorted.engine),
    sculptor: requestOf(sorted.sculptor),
    records: { engine: counts.engine, sculptor: counts.sculptor },
    dropped: { unnamed: counts.unnamed, unrouted: counts.unrouted },
  };
}

const destinations = ['engine', 'sculptor'] as const;

/** A message of `around` and field 2 for each item, unless there is none. */
function add(to: Buffer[], around: readonly Buffer[], items: readonly Buffer[]): void {
  if (items.length === 0) return;
  to.push(Buffer.concat([...around, ...items.map(item => bytesField(2, item))]));
}

function requestOf(resourceLogs: readonly Buffer[]): Buffer | null {
  if (resourceLogs.length === 0) return null;
  return Buffer.concat(resourceLogs.map(item => bytesField(1, item)));
}

type Counted = Record<Destination | 'unnamed' | 'unrouted', number>;

function sortRecords(records: readonly Buffer[], stamp: Buffer, counts: Counted) {
  const sorted = { engine: [] as Buffer[], sculptor: [] as Buffer[] };
  for (const record of records) {
    const { eventName, unstamped } = readRecord(record);
    const to = Object.hasOwn(routes, eventName) ? routes[eventName] : undefined;
    counts[to ?? (eventName === '' ? 'unnamed' : 'unrouted')]++;
    if (to === 'engine') sorted.engine.push(record);
    if (to === 'sculptor') sorted.sculptor.push(Buffer.concat([...unstamped, stamp]));
  }
  return sorted;
}

/** The event name of a record, and its fields without an attribute that is the stamp. */
function readRecord(record: Buffer): { eventName: string; unstamped: Buffer[] } {
  const cursor = cursorOver(record);
  const unstamped: Buffer[] = [];
  let eventName = '';
  while (cursor.pos < cursor.end) {
    const start = cursor.pos;
    let isStamp = false;
    readField(cursor, tag => {
      if (tag === eventNameTag) eventName = readString(cursor);
      else if (tag === attributesTag) isStamp = readKey(cursor) === attr.mode;
      else return false;
      return true;
    });
    if (!isStamp) unstamped.push(record.subarray(start, cursor.pos));
  }
  return { eventName, unstamped };
}

/** The key of a KeyValue, which may follow its value; the value is skipped. */
function readKey(cursor: Cursor): string {
  let key = '';
  const end = readLength(cursor);
  readFields(cursor, end, tag => {
    if (tag !== keyTag) return false;
    key = readString(cursor);
    return true;
  });
  return key;
}

function modeAttribute(mode: Mode): Buffer {
  return Buffer.concat([stringField(1, attr.mode), bytesField(2, stringField(1, mode))]);
}

/** Cuts a message at a length-delimited field; slices, not copies. */
function cut(message: Uint8Array, itemTag: number): Cut {
  const cursor = cursorOver(message);
  const around: Buffer[] = [];
  const items: Buffer[] = [];
  while (cursor.pos < cursor.end) {
    const start = cursor.pos;
    let isItem = false;
    readField(cursor, tag => {
      if (tag !== itemTag) return false;
      const end = readLength(cursor);
      items.push(cursor.bytes.subarray(cursor.pos, end));
      cursor.pos = end;
      isItem = true;
      return true;
    });
    if (!isItem) around.push(cursor.bytes.subarray(start, cursor.pos));
  }
  return { around, items };
}

function readField(cursor: Cursor, field: (tag: number) => boolean): void {
  const tag = readTag(cursor);
  if (!field(tag)) skipField(cursor, tag);
}
