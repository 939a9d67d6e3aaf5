import type { AnyValue } from '@opentelemetry/api';
import { ProtobufLogsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableLogRecord } from '@opentelemetry/sdk-logs';
import type { OutgoingEvent } from '../contract/events.ts';
import { schemaUrl } from '../contract/metrics.ts';
import type { Cancel, Clock } from '../contract/ports.ts';
import { createCounts } from './counts.ts';
import { createExportClient, type ExportClient, type SendResult } from './export-client.ts';

/** Events that were taken by the other end, sends that were tried again, and events that were lost, by reason. */
export type EventsCount =
  | 'sent'
  | 'retries'
  | 'lost.queue-full'
  | 'lost.expired'
  | 'lost.refused'
  | 'lost.stopped';

export type EventsExporter = {
  /** Sent at once, or together with what else waits when the export in flight ends. Never throws. */
  readonly emit: (event: OutgoingEvent) => void;
  /** True when everything emitted before was sent (or counted as lost) within the time. */
  readonly flush: (timeoutSeconds?: number) => Promise<boolean>;
  /** Gives what waits a last chance of `stopSeconds`, then closes. */
  readonly stop: () => Promise<void>;
  readonly counters: () => Readonly<Partial<Record<EventsCount, number>>>;
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
  /** An event that could not be sent for this long is dropped: nobody acts on it any more. */
  readonly maxAgeSeconds?: number;
  readonly timeoutSeconds?: number;
  readonly stopSeconds?: number;
  /** For tests. */
  readonly client?: ExportClient;
};

type Waiting = { readonly since: number; readonly record: ReadableLogRecord };

/** Records in one request. */
const maxBatch = 512;
const firstBackoffSeconds = 0.05;
const maxBackoffSeconds = 2;
/** Longest pause that another end can ask for. */
const maxAskedSeconds = 30;

/**
 * Exports events at least once and with low latency: one request in flight, what comes meanwhile goes together in the
 * next. What the other end cannot take now is sent again, with growing pauses or those that it asks for.
 */
export function createEventsExporter(options: EventsExporterOptions): EventsExporter {
  const { endpoint, clock, maxPending = 1024, maxAgeSeconds = 120, stopSeconds = 1 } = options;
  const { timeoutSeconds = 5 } = options;
  const client = options.client ?? createExportClient({ endpoint, signal: 'logs', timeoutSeconds });
  const counts = createCounts<EventsCount>();
  const record = recordOf(options);
  const idle = new Set<() => void>();
  let waiting: Waiting[] = [];
  let inFlight = false;
  let stopped = false;
  let singly = 0;
  let backoffSeconds = firstBackoffSeconds;
  let lastFailure: string | null = null;
  let cancelRetry: Cancel | null = null;

  const trim = (): void => {
    const over = waiting.length - maxPending;
    if (over <= 0) return;
    waiting.splice(0, over);
    counts.add('lost.queue-full', over);
  };

  const dropExpired = (): void => {
    const oldest = clock.monotonicSeconds() - maxAgeSeconds;
    const fresh = waiting.filter(event => event.since >= oldest);
    if (fresh.length < waiting.length) counts.add('lost.expired', waiting.length - fresh.length);
    waiting = fresh;
  };

  const pump = (): void => {
    if (inFlight || cancelRetry || stopped) return;
    dropExpired();
    const batch = waiting.splice(0, singly > 0 ? 1 : maxBatch);
    if (batch.length === 0) {
      for (const resolve of idle) resolve();
      idle.clear();
      return;
    }
    inFlight = true;
    const request = ProtobufLogsSerializer.serializeRequest(batch.map(event => event.record));
    client.send(request ?? new Uint8Array()).then(result => {
      inFlight = false;
      settle(batch, result);
      pump();
    });
  };

  const settle = (batch: readonly Waiting[], result: SendResult): void => {
    lastFailure = failureOf(result);
    if (result.kind === 'retry' && stopped) {
      counts.add('lost.stopped', batch.length);
      return;
    }
    if (result.kind === 'retry') {
      waiting.unshift(...batch);
      trim();
      pause(result.afterSeconds);
      return;
    }
    backoffSeconds = firstBackoffSeconds;
    if (result.kind === 'refused' && batch.length > 1) {
      // One bad or huge event must cost itself only.
      waiting.unshift(...batch);
      singly = batch.length;
      return;
    }
    singly = Math.max(0, singly - 1);
    const lost =
      result.kind === 'refused' ? batch.length : result.kind === 'partial' ? result.rejected : 0;
    if (lost > 0) counts.add('lost.refused', lost);
    if (batch.length > lost) counts.add('sent', batch.length - lost);
  };

  const pause = (askedSeconds: number | null): void => {
    counts.add('retries');
    const seconds = Math.min(askedSeconds ?? backoffSeconds, maxAskedSeconds);
    backoffSeconds = Math.min(backoffSeconds * 2, maxBackoffSeconds);
    cancelRetry = clock.after(seconds, () => {
      cancelRetry = null;
      pump();
    });
  };

  const flush = (seconds = 5): Promise<boolean> => {
    if (!inFlight && waiting.length === 0) return Promise.resolve(true);
    return new Promise(resolve => {
      const done = () => {
        cancel();
        resolve(true);
      };
      const cancel = clock.after(seconds, () => {
        idle.delete(done);
        resolve(false);
      });
      idle.add(done);
    });
  };

  return {
    emit: event => {
      if (stopped) {
        counts.add('lost.stopped');
        return;
      }
      waiting.push({ since: clock.monotonicSeconds(), record: record(event, clock.unixSeconds()) });
      trim();
      pump();
    },
    flush,
    stop: async () => {
      if (stopped) return;
      // One more try at once, however long the pause would still be.
      cancelRetry?.();
      cancelRetry = null;
      pump();
      await flush(stopSeconds);
      stopped = true;
      (cancelRetry as Cancel | null)?.();
      cancelRetry = null;
      if (waiting.length > 0) counts.add('lost.stopped', waiting.length);
      waiting = [];
      client.close();
    },
    counters: counts.read,
    lastFailure: () => lastFailure,
  };
}

function failureOf(result: SendResult): string | null {
  if (result.kind === 'ok') return null;
  return result.kind === 'partial' ? result.message : result.reason;
}

function recordOf(options: EventsExporterOptions) {
  const resource = resourceFromAttributes(options.resource);
  // One object: the serializer groups records by identity of resource and scope.
  const instrumentationScope = { name: options.scope, schemaUrl };
  return (event: OutgoingEvent, unixSeconds: number): ReadableLogRecord => {
    const seconds = Math.floor(unixSeconds);
    const hrTime: [number, number] = [seconds, Math.floor((unixSeconds - seconds) * 1e9)];
    return {
      hrTime,
      hrTimeObserved: hrTime,
      severityNumber: 9,
      severityText: 'INFO',
      body: event.body,
      eventName: event.eventName,
      resource,
      instrumentationScope,
      attributes: event.attributes as Record<string, AnyValue>,
      droppedAttributesCount: 0,
    };
  };
}
