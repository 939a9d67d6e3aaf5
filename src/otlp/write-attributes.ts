import { scopeVersion } from '../contract/metrics.ts';
import type { BackwardWriter } from './backward-writer.ts';

/* What metrics and log records have in common: the scope, and attributes (KeyValue and AnyValue), from their end to their beginning. */

/** From the last to the first; an iterator would make an object for each. */
export function backwards<T>(list: readonly T[], write: (item: T) => void): void {
  for (let i = list.length - 1; i >= 0; i -= 1) write(list[i] as T);
}

/**
 * A field of KeyValues, one for each attribute that is not undefined.
 * @throws TypeError for an attribute that is no AnyValue
 */
export function writeAttributes(
  writer: BackwardWriter,
  field: number,
  attributes: Readonly<Record<string, unknown>>,
): void {
  const keys = Object.keys(attributes);
  for (let i = keys.length - 1; i >= 0; i -= 1) {
    const key = keys[i] ?? '';
    const value = attributes[key];
    if (value === undefined) continue;
    const end = writer.mark();
    writeAnyValue(writer, value, key);
    writer.begin(2, end);
    writer.string(1, key);
    writer.begin(field, end);
  }
}

/** The field `scope` of ScopeMetrics and ScopeLogs. */
export function writeScope(writer: BackwardWriter, name: string): void {
  const end = writer.mark();
  writer.string(2, scopeVersion);
  writer.string(1, name);
  writer.begin(1, end);
}

/** The content of an AnyValue; null has none. `key`: whose it is, for who reads of an error. */
export function writeAnyValue(writer: BackwardWriter, value: unknown, key: string): void {
  switch (typeof value) {
    case 'string':
      writer.string(1, value);
      break;
    case 'number':
      if (Number.isInteger(value) && Math.abs(value) < 2 ** 63) writer.varint(3, value);
      else writer.double(4, value);
      break;
    case 'boolean':
      writer.varint(2, value ? 1 : 0);
      break;
    case 'object':
      if (value !== null) writeNested(writer, value, key);
      break;
    default:
      throw new TypeError(`attribute ${key}: a ${typeof value} cannot be written`);
  }
}

function writeNested(writer: BackwardWriter, value: object, key: string): void {
  const end = writer.mark();
  if (value instanceof Uint8Array) {
    writer.raw(value);
    writer.begin(7, end);
  } else if (Array.isArray(value)) {
    backwards(value, item => {
      const itemEnd = writer.mark();
      writeAnyValue(writer, item ?? null, key);
      writer.begin(1, itemEnd);
    });
    writer.begin(5, end);
  } else {
    writeAttributes(writer, 1, value as Readonly<Record<string, unknown>>);
    writer.begin(6, end);
  }
}
