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
  // Records are JSON-like: checked by their schema.
  const detail = record as AttributeValue;
  return {
    eventName,
    body,
    attributes: { ...flatCopies(eventName, record), [detailAttribute]: detail },
  };
}
