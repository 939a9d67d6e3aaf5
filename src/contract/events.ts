import * as z from 'zod';
import { actionSchema } from './action.ts';
import { ProtocolError } from './errors.ts';
import { placementSchema, topologySchema } from './host.ts';
import { attr } from './metrics.ts';
import { outlierSchema } from './outlier.ts';
import { modeSchema, policySchema } from './policy.ts';
import { heartbeatSchema, recommendationSchema, withdrawalSchema } from './recommendation.ts';
import type { AttributeValue, LogEvent } from './telemetry.ts';

export const policyEventSchema = z.strictObject({
  hostId: z.string().min(1),
  at: z.number().positive(),
  policy: policySchema,
  /** What holds for everything now: the strictest of the newest heartbeat's stamp and the ceiling. */
  mode: modeSchema,
});

/** The record of each event. `signed` ones are acted on: their record is the payload attribute, nothing else. */
export const events = {
  'sculptor.topology': { schema: topologySchema, signed: false },
  'sculptor.placement': { schema: placementSchema, signed: false },
  'sculptor.recommendation': { schema: recommendationSchema, signed: true },
  'sculptor.withdrawal': { schema: withdrawalSchema, signed: true },
  'sculptor.heartbeat': { schema: heartbeatSchema, signed: true },
  'sculptor.action': { schema: actionSchema, signed: false },
  'sculptor.outlier': { schema: outlierSchema, signed: false },
  'sculptor.policy': { schema: policyEventSchema, signed: false },
} as const;

export type EventName = keyof typeof events;
export type EventRecord<N extends EventName> = z.infer<(typeof events)[N]['schema']>;

/** Attribute that carries the record of an unsigned event as a nested map. */
export const detailAttribute = 'sculptor.detail';

export function isEventName(name: string): name is EventName {
  return Object.hasOwn(events, name);
}

/** The bytes that an Ed25519 signature covers: the event name, a newline, and the payload exactly as sent. */
export function signedBytes(eventName: EventName, payload: string): Uint8Array {
  return new TextEncoder().encode(`${eventName}\n${payload}`);
}

/**
 * The record of an event, parsed: from `sculptor.payload` (JSON) for signed events, else from the nested detail.
 * Does not verify signatures: that is the receiver's, before it acts.
 * @throws ProtocolError EVENT_INVALID, which names the attribute or the field, what was wanted and what came
 */
export function parseEvent<N extends EventName>(name: N, event: LogEvent): EventRecord<N> {
  const { schema, signed } = events[name];
  const result = schema.safeParse(signed ? payloadOf(event) : event.attributes[detailAttribute]);
  if (result.success) return result.data as EventRecord<N>;
  const issue = result.error.issues[0];
  throw new ProtocolError(
    'EVENT_INVALID',
    `${name}: ${issue?.path.join('.') || 'record'}: ${issue?.message ?? 'malformed'}`,
    { at: issue?.path.join('.'), wanted: issue?.message },
    result.error,
  );
}

function payloadOf(event: LogEvent): unknown {
  const payload = event.attributes[attr.payload];
  if (typeof payload !== 'string') {
    throw new ProtocolError(
      'EVENT_INVALID',
      `${event.eventName}: ${attr.payload}: wanted a JSON string, got ${typeof payload}`,
      {
        at: attr.payload,
      },
    );
  }
  try {
    return JSON.parse(payload) as unknown;
  } catch (cause) {
    throw new ProtocolError(
      'EVENT_INVALID',
      `${event.eventName}: ${attr.payload}: not JSON`,
      { at: attr.payload },
      cause,
    );
  }
}

/** What a part hands to the OTLP log exporter. */
export type OutgoingEvent = {
  readonly eventName: EventName;
  /** One sentence for people. */
  readonly body: string;
  /** Flat copies to filter by, and the payload and its signature, or the detail. */
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  /** When it happened, in seconds since the epoch, where it is told later; absent: when it is emitted. */
  readonly at?: number;
};
