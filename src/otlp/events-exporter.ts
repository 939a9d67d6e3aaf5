import type { OutgoingEvent } from '../contract/events.ts';
import type { Clock } from '../contract/ports.ts';
import { createExportClient, type ExportClient } from './export-client.ts';
import { createSendQueue, type QueueCounters } from './send-queue.ts';
import { writeEvent } from './write-event.ts';

export type EventsExporter = {
  /** Sent at once, or together with what else waits when the export in flight ends. Never throws. */
  readonly emit: (event: OutgoingEvent) => void;
  /** True when everything emitted before was sent (or counted as lost) within the time. */
  readonly flush: (timeoutSeconds?: number) => Promise<boolean>;
  /** Gives what waits a last chance of `stopSeconds`, then closes. */
  readonly stop: () => Promise<void>;
  /** In events. */
  readonly counters: () => QueueCounters;
  /** Why the last send failed; null when it did not. */
  readonly lastFailure: () => string | null;
};

export type EventsExporterOptions = {
  /** `unix:///path` or `http(s)://host:port`. */
  readonly endpoint: string;
  /** One of `scopes` of the contract. */
  readonly scope: string;
  /** Attributes of the resource, such as `service.name` and `host.id`. */
  readonly resource: Readonly<Record<string, string>>;
  readonly clock: Clock;
  /** Events that may wait; the oldest is dropped for a newer one. */
  readonly maxPending?: number;
  /** Bytes that may wait. */
  readonly maxPendingBytes?: number;
  /** An event that could not be sent for this long is dropped: nobody acts on it any more. */
  readonly maxAgeSeconds?: number;
  readonly timeoutSeconds?: number;
  readonly stopSeconds?: number;
  /** In place of a connection to the endpoint. */
  readonly client?: ExportClient;
};

/** Exports events at least once and with low latency. What waits is bounded; what is lost is counted by reason. */
export function createEventsExporter(options: EventsExporterOptions): EventsExporter {
  const { endpoint, clock, timeoutSeconds = 5, stopSeconds = 1 } = options;
  const queue = createSendQueue({
    client: options.client ?? createExportClient({ endpoint, signal: 'logs', timeoutSeconds }),
    clock,
    maxRequests: options.maxPending ?? 1024,
    maxBytes: options.maxPendingBytes ?? 33_554_432,
    maxAgeSeconds: options.maxAgeSeconds ?? 120,
  });
  const encode = eventEncoder(options.scope, options.resource);
  return {
    emit: event => queue.push(encode(event, clock.unixSeconds())),
    flush: (seconds = 5) => queue.flush(seconds),
    stop: () => queue.stop(stopSeconds),
    counters: queue.counters,
    lastFailure: queue.lastFailure,
  };
}

/** https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
const severity = { number: 9, text: 'INFO' };

/** Encodes an event that is emitted at `unixSeconds` as an ExportLogsServiceRequest of one record. */
export function eventEncoder(scope: string, resource: Readonly<Record<string, string>>) {
  return (event: OutgoingEvent, unixSeconds: number): Uint8Array =>
    writeEvent({
      ...event,
      resource,
      scope,
      severity,
      unixNanoseconds: nanosecondsOf(event.at ?? unixSeconds),
      observedUnixNanoseconds: nanosecondsOf(unixSeconds),
    });
}

function nanosecondsOf(unixSeconds: number): bigint {
  const seconds = Math.floor(unixSeconds);
  return BigInt(seconds) * 1_000_000_000n + BigInt(Math.floor((unixSeconds - seconds) * 1e9));
}
