import { ProtocolError } from '../contract/errors.ts';
import type { AttributeValue } from '../contract/telemetry.ts';
import { readAnyValue, tag } from './decode-common.ts';
import {
  type Cursor,
  cursorOver,
  mustBeUtf8,
  readFields,
  readLength,
  readString,
} from './protobuf-reader.ts';
import { bytesField, stringField } from './protobuf-writer.ts';
import { type Edited, rewriteFields } from './rewrite-fields.ts';
import {
  identityWithin,
  type PointShape,
  pointIdentity,
  type SeriesIdentity,
} from './series-identity.ts';
import type { Signal } from './services.ts';

/** What somebody who is not trusted may not say, and what is said instead. */
export type RewriteRules = {
  /** Attributes that are taken off wherever they stand: resources, scopes, points, records. */
  readonly isIdentity: (key: string) => boolean;
  /** Attributes that a resource gets, by what was taken off it (values that are strings). */
  readonly identify: (claimed: ReadonlyMap<string, string>) => Readonly<Record<string, string>>;
  /** Log records with this event name are left out. */
  readonly isForbiddenEvent: (name: string) => boolean;
  readonly maxResources: number;
  /** Points or log records. */
  readonly maxRecords: number;
  /** Attributes of all of them together. */
  readonly maxAttributes: number;
  /** Whether a point of this series may pass, and so many series at once; of a log record it is its resource and scope. */
  readonly takesSeries: (series: SeriesIdentity, count: number) => boolean;
  /** Nobody who sends knows it. */
  readonly seriesSecret: Buffer;
};

/** `request` is null when nothing is left of it. */
export type Rewritten = {
  readonly request: Buffer | null;
  /** Points or log records that are left. */
  readonly records: number;
  readonly forbiddenEvents: number;
  /** Points or log records of series that were not taken. */
  readonly overSeries: number;
};

/**
 * An Export request as the rules want it, at the level of its bytes: nothing is decoded that is not looked at, and
 * unknown fields survive. A resource is one field that comes first, whatever it was sent as. Strings are UTF-8, or all of it is malformed:
 * collectors take others and pass them on, and a backend then refuses the whole batch, with what others sent in it.
 * @throws ProtocolError OTLP_MALFORMED with the byte offset; OTLP_TOO_MANY with `at` resources, records or attributes
 */
export function rewriteRequest(signal: Signal, request: Buffer, rules: RewriteRules): Rewritten {
  const walk: Walk = { rules, records: 0, attributes: 0, forbiddenEvents: 0, overSeries: 0 };
  const cursor = cursorOver(request, true);
  let resources = 0;
  const rewritten = rewriteFields(cursor, cursor.end, (field, _, end) => {
    if (field !== tag.bytes(1)) return undefined;
    resources += 1;
    if (resources > rules.maxResources) throw tooMany('resources', rules.maxResources);
    return rewriteResourceEntry(walk, scopeShapes[signal], cursor, end);
  });
  const { forbiddenEvents, overSeries } = walk;
  const records = walk.records - overSeries;
  return {
    request: records > 0 ? (rewritten ?? request) : null,
    records,
    forbiddenEvents,
    overSeries,
  };
}

type Walk = {
  readonly rules: RewriteRules;
  records: number;
  attributes: number;
  forbiddenEvents: number;
  overSeries: number;
};

/** Where attributes stand in a message, and in which of its fields others are. */
type Shape = {
  readonly attributes?: number;
  /** Strings that are not looked into. */
  readonly strings?: readonly number[];
  readonly fields?: Readonly<Record<number, Shape>>;
  readonly record?: PointShape | 'log';
  /** What it says beside them tells series apart. */
  readonly names?: true;
};

const exemplar: Shape = { attributes: tag.bytes(7) };
const point = (
  attributes: number,
  exemplars?: number,
  more: Pick<PointShape, 'bounds' | 'quantiles'> = {},
): Shape => ({
  record: { attributes, ...more },
  attributes: tag.bytes(attributes),
  ...(exemplars === undefined ? {} : { fields: { [tag.bytes(exemplars)]: exemplar } }),
});
const pointsOf = (shape: Shape): Shape => ({ fields: { [tag.bytes(1)]: shape } });
const number = pointsOf(point(7, 5));

/** @see https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto */
const metric: Shape = {
  names: true,
  attributes: tag.bytes(12),
  strings: [1, 2, 3].map(tag.bytes),
  fields: {
    [tag.bytes(5)]: number,
    [tag.bytes(7)]: number,
    [tag.bytes(9)]: pointsOf(point(9, 8, { bounds: 7 })),
    [tag.bytes(10)]: pointsOf(point(1, 11)),
    [tag.bytes(11)]: pointsOf(point(7, undefined, { quantiles: 6 })),
  },
};
const logRecord: Shape = { record: 'log', attributes: tag.bytes(6), strings: [tag.bytes(3)] };
const scope: Shape = { attributes: tag.bytes(3), strings: [1, 2].map(tag.bytes) };
const entity: Shape = { strings: [1, 2, 3, 4].map(tag.bytes) };

const scoped = (records: Shape): Shape => ({
  names: true,
  strings: [tag.bytes(3)],
  fields: { [tag.bytes(1)]: scope, [tag.bytes(2)]: records },
});
const scopeShapes: Readonly<Record<Signal, Shape>> = {
  metrics: scoped(metric),
  logs: scoped(logRecord),
};

/** A ResourceMetrics or ResourceLogs. Parts of a resource that was sent in several fields are one resource to its reader. */
function rewriteResourceEntry(walk: Walk, scopes: Shape, cursor: Cursor, end: number): Buffer {
  const claimed = new Map<string, string>();
  const resource: Buffer[] = [];
  const start = cursor.pos;
  const { seriesSecret } = walk.rules;
  const identity = identityWithin(seriesSecret, cursor, end, field => field === tag.bytes(2));
  const rest = rewriteFields(cursor, end, (field, _, fieldEnd) => {
    if (field === tag.bytes(2)) return rewrite(walk, scopes, identity, cursor, fieldEnd);
    if (field === tag.bytes(3)) mustBeUtf8(cursor, fieldEnd);
    if (field !== tag.bytes(1)) return undefined;
    const from = cursor.pos;
    const kept = rewriteFields(cursor, fieldEnd, (inner, __, innerEnd) => {
      if (inner === tag.bytes(1)) return attributeOf(walk, cursor, innerEnd, claimed);
      return inner === tag.bytes(3) ? rewrite(walk, entity, identity, cursor, innerEnd) : undefined;
    });
    resource.push(kept ?? cursor.bytes.subarray(from, fieldEnd));
    return null;
  });
  for (const [key, value] of Object.entries(walk.rules.identify(claimed)))
    resource.push(bytesField(1, keyValue(key, value)));
  const first = bytesField(1, Buffer.concat(resource));
  return Buffer.concat([first, rest ?? cursor.bytes.subarray(start, end)]);
}

function keyValue(key: string, value: string): Buffer {
  return Buffer.concat([stringField(1, key), bytesField(2, stringField(1, value))]);
}

/** `outer`: identity of what the message is within. */
function rewrite(
  walk: Walk,
  shape: Shape,
  outer: SeriesIdentity,
  cursor: Cursor,
  end: number,
): Edited {
  if (shape.record === 'log' && isForbidden(walk.rules, cursor, end)) {
    walk.forbiddenEvents += 1;
    return null;
  }
  if (shape.record) {
    walk.records += 1;
    if (walk.records > walk.rules.maxRecords) throw tooMany('records', walk.rules.maxRecords);
    if (!isTaken(walk.rules, shape.record, outer, cursor, end)) {
      walk.overSeries += 1;
      return null;
    }
  }
  const isWithin = (field: number): boolean => {
    const inner = shape.fields?.[field];
    return inner?.fields !== undefined || inner?.record !== undefined;
  };
  const identity = shape.names ? identityWithin(outer, cursor, end, isWithin) : outer;
  const rewritten = rewriteFields(cursor, end, (field, _, fieldEnd) => {
    if (field === shape.attributes) return attributeOf(walk, cursor, fieldEnd);
    if (shape.strings?.includes(field)) mustBeUtf8(cursor, fieldEnd);
    const inner = shape.fields?.[field];
    return inner ? rewrite(walk, inner, identity, cursor, fieldEnd) : undefined;
  });
  return rewritten ?? undefined;
}

function isTaken(
  { takesSeries }: RewriteRules,
  record: NonNullable<Shape['record']>,
  outer: SeriesIdentity,
  cursor: Cursor,
  end: number,
): boolean {
  if (record === 'log') return takesSeries(outer, 1);
  const { identity, series } = pointIdentity(outer, record, cursor, end);
  return takesSeries(identity, series);
}

/** Older SDKs put the event's name into an attribute. A name that comes twice is forbidden when either is. */
function isForbidden(rules: RewriteRules, cursor: Cursor, end: number): boolean {
  const start = cursor.pos;
  let forbidden = false;
  const judge = (name: unknown): void => {
    forbidden ||= typeof name === 'string' && rules.isForbiddenEvent(name);
  };
  readFields(cursor, end, field => {
    if (field === tag.bytes(12)) judge(readString(cursor));
    else if (field === tag.bytes(6)) {
      const { keys, values } = readAttribute(cursor, readLength(cursor));
      if (keys.includes('event.name')) values.forEach(judge);
    } else if (field === tag.bytes(5)) readAnyValue(cursor);
    else return false;
    return true;
  });
  cursor.pos = start;
  return forbidden;
}

function attributeOf(
  walk: Walk,
  cursor: Cursor,
  end: number,
  claimed?: Map<string, string>,
): Edited {
  const { maxAttributes, isIdentity } = walk.rules;
  walk.attributes += 1;
  if (walk.attributes > maxAttributes) throw tooMany('attributes', maxAttributes);
  const { keys, values } = readAttribute(cursor, end);
  if (!keys.some(isIdentity)) return undefined;
  const value = values.at(-1);
  if (typeof value === 'string') for (const key of keys) claimed?.set(key, value);
  return null;
}

type Attribute = { readonly keys: string[]; readonly values: AttributeValue[] };

/** A KeyValue. All its keys and values: readers do not agree which of two counts, and to many an empty one leaves the one before. */
function readAttribute(cursor: Cursor, end: number): Attribute {
  const keys: string[] = [];
  const values: AttributeValue[] = [];
  readFields(cursor, end, field => {
    if (field === tag.bytes(1)) keys.push(readString(cursor));
    else if (field === tag.bytes(2)) values.push(readAnyValue(cursor));
    else return false;
    return true;
  });
  return { keys, values };
}

function tooMany(at: 'resources' | 'records' | 'attributes', most: number): ProtocolError {
  const message = `${at}: wanted at most ${most} in a request, got more`;
  return new ProtocolError('OTLP_TOO_MANY', message, { at, wanted: most });
}
