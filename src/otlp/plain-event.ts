import {
  detailAttribute,
  type EventName,
  type EventRecord,
  type OutgoingEvent,
} from '../contract/events.ts';
import type { AttributeValue } from '../contract/telemetry.ts';
import { flatCopies } from './flat-copies.ts';

/**
 * An event that informs and is not acted on: its record as a nested map, and flat copies of what people filter by.
 * Lossless through OTLP: null travels as an AnyValue with nothing set; fields that are undefined are left out.
 */
export function plainEvent<N extends EventName>(
  eventName: N,
  record: EventRecord<N>,
  body: string,
): OutgoingEvent {
  const detail = attributeValue(record) ?? {};
  return {
    eventName,
    body,
    attributes: { ...flatCopies(eventName, record), [detailAttribute]: detail },
  };
}

/** A record of the contract as an attribute value; undefined has none. Records are JSON-like: checked by their schema. */
function attributeValue(value: unknown): AttributeValue | undefined {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map(item => attributeValue(item) ?? null);
  if (typeof value !== 'object') return value as AttributeValue | undefined;
  const entries = Object.entries(value)
    .map(([key, item]) => [key, attributeValue(item)] as const)
    .filter((entry): entry is readonly [string, AttributeValue] => entry[1] !== undefined);
  return Object.fromEntries(entries);
}
