import type { Cancel, Clock } from '../contract/ports.ts';
import { createCounts } from './counts.ts';
import type { ExportClient, SendResult } from './export-client.ts';

/** Requests that were taken, sends that were tried again, and what was lost, by reason. */
export type QueueCount =
  | 'sent'
  | 'retries'
  | 'rejected-records'
  | 'lost.queue-full'
  | 'lost.expired'
  | 'lost.refused'
  | 'lost.stopped';

export type QueueCounters = Readonly<Partial<Record<QueueCount, number>>>;

export type SendQueue = {
  /** Whether a request of so many bytes finds room now without another one being lost for it. */
  readonly hasRoom: (bytes: number) => boolean;
  /** Adds a request, and makes room for it by dropping the oldest ones that wait. */
  readonly push: (request: Uint8Array) => void;
  /** True when nothing waits any more within the time; false when the time is over. */
  readonly flush: (timeoutSeconds: number) => Promise<boolean>;
  /** Gives what waits one more chance of `graceSeconds`, then closes the client. */
  readonly stop: (graceSeconds: number) => Promise<void>;
  readonly counters: () => QueueCounters;
  /** Why the last send failed; null when it did not. */
  readonly lastFailure: () => string | null;
};

export type SendQueueOptions = {
  readonly client: ExportClient;
  readonly clock: Clock;
  readonly maxRequests: number;
  readonly maxBytes: number;
  /** What could not be sent for this long is dropped: nobody acts on it any more. */
  readonly maxAgeSeconds: number;
};

type Waiting = { readonly since: number; readonly request: Uint8Array };

const firstBackoffSeconds = 0.05;
const maxBackoffSeconds = 2;
/** Longest pause that the other end can ask for. */
const maxAskedSeconds = 30;
/** Requests are sent together below this: collectors take 4 MiB unless configured otherwise. */
const maxBatchBytes = 3_500_000;

/**
 * Sends Export requests at least once and in order: one in flight, what comes meanwhile goes together in the next
 * (requests, concatenated, are one request). What the other end cannot take now is sent again, after growing pauses or
 * those that it asks for. Bounded in number, bytes and age.
 */
export function createSendQueue(options: SendQueueOptions): SendQueue {
  const { client, clock, maxRequests, maxBytes, maxAgeSeconds } = options;
  const counts = createCounts<QueueCount>();
  const idle = new Set<() => void>();
  const waiting: Waiting[] = [];
  let bytes = 0;
  let inFlight: readonly Waiting[] = [];
  let stopped = false;
  /** So many requests go alone, since one of them spoiled a batch. */
  let alone = 0;
  let backoffSeconds = firstBackoffSeconds;
  let lastFailure: string | null = null;
  let cancelPause: Cancel = () => undefined;
  let paused = false;

  const take = (count: number): Waiting[] => {
    const taken = waiting.splice(0, count);
    for (const { request } of taken) bytes -= request.byteLength;
    return taken;
  };

  const putBack = (batch: readonly Waiting[]): void => {
    waiting.unshift(...batch);
    for (const { request } of batch) bytes += request.byteLength;
    trim();
  };

  const trim = (): void => {
    while (waiting.length > maxRequests || (bytes > maxBytes && waiting.length > 1)) {
      take(1);
      counts.add('lost.queue-full');
    }
  };

  const dropExpired = (): void => {
    const oldest = clock.monotonicSeconds() - maxAgeSeconds;
    while (waiting[0] && waiting[0].since < oldest) {
      take(1);
      counts.add('lost.expired');
    }
  };

  const pump = (): void => {
    if (inFlight.length > 0 || paused) return;
    dropExpired();
    if (waiting.length === 0) {
      for (const resolve of idle) resolve();
      return;
    }
    const batch = take(alone > 0 ? 1 : batchLength(waiting));
    inFlight = batch;
    client.send(Buffer.concat(batch.map(({ request }) => request))).then(result => {
      inFlight = [];
      settle(batch, result);
      pump();
    });
  };

  const settle = (batch: readonly Waiting[], result: SendResult): void => {
    lastFailure = failureOf(result);
    if (result.kind === 'retry') {
      if (stopped) counts.add('lost.stopped', batch.length);
      else {
        putBack(batch);
        pause(result.afterSeconds);
      }
      return;
    }
    backoffSeconds = firstBackoffSeconds;
    if (result.kind === 'refused' && batch.length > 1 && !stopped) {
      // One bad or huge request must cost itself only.
      putBack(batch);
      alone = batch.length;
      return;
    }
    alone = Math.max(0, alone - 1);
    counts.add(result.kind === 'refused' ? 'lost.refused' : 'sent', batch.length);
    if (result.kind === 'partial') counts.add('rejected-records', result.rejected);
  };

  const pause = (askedSeconds: number | null): void => {
    counts.add('retries');
    // Who asks for no pause at all would be sent the same again and again.
    const wanted = Math.max(askedSeconds ?? backoffSeconds, firstBackoffSeconds);
    const seconds = Math.min(wanted, maxAskedSeconds);
    backoffSeconds = Math.min(backoffSeconds * 2, maxBackoffSeconds);
    paused = true;
    cancelPause = clock.after(seconds, endPause);
  };

  const endPause = (): void => {
    cancelPause();
    paused = false;
    pump();
  };

  const flush = (timeoutSeconds: number): Promise<boolean> => {
    if (inFlight.length === 0 && waiting.length === 0) return Promise.resolve(true);
    return new Promise(resolve => {
      const end = (empty: boolean) => {
        cancel();
        idle.delete(done);
        resolve(empty);
      };
      const done = () => end(true);
      const cancel = clock.after(timeoutSeconds, () => end(false));
      idle.add(done);
    });
  };

  return {
    // What is in flight may come back.
    hasRoom: more =>
      waiting.length + inFlight.length < maxRequests && bytes + sizeOf(inFlight) + more <= maxBytes,
    push: request => {
      if (stopped) {
        counts.add('lost.stopped');
        return;
      }
      waiting.push({ since: clock.monotonicSeconds(), request });
      bytes += request.byteLength;
      trim();
      pump();
    },
    flush,
    stop: async graceSeconds => {
      if (stopped) return;
      endPause();
      await flush(graceSeconds);
      stopped = true;
      cancelPause();
      const left = take(waiting.length).length;
      if (left > 0) counts.add('lost.stopped', left);
      client.close();
    },
    counters: counts.read,
    lastFailure: () => lastFailure,
  };
}

/** How many of the first go together: at least one. */
function batchLength(waiting: readonly Waiting[]): number {
  let bytes = 0;
  const over = waiting.findIndex(({ request }) => {
    bytes += request.byteLength;
    return bytes > maxBatchBytes;
  });
  return over === -1 ? waiting.length : Math.max(1, over);
}

function sizeOf(requests: readonly Waiting[]): number {
  return requests.reduce((bytes, { request }) => bytes + request.byteLength, 0);
}

function failureOf(result: SendResult): string | null {
  if (result.kind === 'ok') return null;
  return result.kind === 'partial' ? result.message : result.reason;
}
