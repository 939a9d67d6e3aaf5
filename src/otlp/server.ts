import type { Duplex } from 'node:stream';
import {
  Metadata,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { describeError, ProtocolError } from '../contract/errors.ts';
import type { Running } from '../contract/ports.ts';
import { type Counts, createCounts } from './counts.ts';
import { encodeExportResponse } from './export-response.ts';
import { endedCalls } from './grpc-calls.ts';
import { inflateBy } from './inflate.ts';
import { encodeRetryStatus, statusDetailsKey } from './retry-info.ts';
import { exportMethod, type Signal } from './services.ts';
import { listenUnix, type PeerRefusal, type PeerUid } from './unix-socket.ts';

/** What becomes of one Export request. `partial` names what was not taken; the rest was. */
export type Outcome =
  | { readonly kind: 'ok' }
  | { readonly kind: 'partial'; readonly rejected: number; readonly message: string }
  | { readonly kind: 'invalid'; readonly message: string }
  | { readonly kind: 'unavailable'; readonly retryAfterSeconds: number };

export type Unavailable = Extract<Outcome, { readonly kind: 'unavailable' }>;

/** May throw: ProtocolError is answered INVALID_ARGUMENT, anything else INTERNAL. */
export type ExportHandler = (request: Buffer) => Promise<Outcome>;

/**
 * Requests by signal, records that were rejected in a partial success, and refusals by reason. `unserved`: of another service, no
 * gRPC that can be read, or given up by the sender before it was whole.
 */
export type ServerCount =
  | `requests.${Signal}`
  | 'rejected-records'
  | `refused.${PeerRefusal | 'queue-full' | 'too-large' | 'malformed' | 'unavailable' | 'failed' | 'unserved'}`;

export type ReceiverOptions = {
  readonly maxMessageBytes: number;
  /** Requests that may wait for their handler; more are answered UNAVAILABLE with RetryInfo. */
  readonly queueRequests: number;
  readonly handlers: { readonly [signal in Signal]?: ExportHandler };
  /** Runs what inflates a message, which the handler gets as it is then, or says when to come again. Absent: each is inflated, aside. */
  readonly inflate?: (run: () => Buffer) => Buffer | Unavailable;
};

export type OtlpServerOptions = ReceiverOptions & {
  /** Path of the unix socket. */
  readonly listen: string;
  /** Users whose processes may connect; the own user always may. */
  readonly allowUids: readonly number[];
  /** As of `listenUnix`. */
  readonly peerUid: PeerUid | null;
};

export type OtlpServer = Running & {
  readonly counters: () => Readonly<Partial<Record<ServerCount, number>>>;
};

/** Serves the connections that it is given. `stop` ends them. */
export type Receiver = {
  readonly accept: (connection: Duplex) => void;
  /** Only when it is asked, requests that are `unserved` are counted. */
  readonly counters: OtlpServer['counters'];
  readonly stop: () => void;
};

/** Senders come back after this when the queue is full: a handler takes milliseconds. */
const fullRetrySeconds = 0.5;
/**
 * A sender that was reset says no goodbye, and its connection would stay for ever as one of the few that it may have. Whoever is
 * there answers a ping by itself, also when it has nothing to send.
 */
const pingSeconds = 30;
const pongSeconds = 20;
/** Largest messages that may wait together; `queueRequests` alone would allow gigabytes. */
const queueMessages = 4;

/**
 * Receives OTLP/gRPC on a unix socket and hands each request over as bytes, in the order of arrival.
 * @throws ConfigError CONFIG_SOCKET
 */
export async function startOtlpServer(options: OtlpServerOptions): Promise<OtlpServer> {
  const counts = createCounts<ServerCount>();
  const receiver = createReceiver(options, counts);
  const listener = await listenUnix({
    path: options.listen,
    allowUids: options.allowUids,
    peerUid: options.peerUid,
    accept: receiver.accept,
    refused: why => counts.add(`refused.${why}`),
  });
  return {
    counters: receiver.counters,
    stop: async () => {
      receiver.stop();
      await listener.close();
    },
  };
}

/** Receives OTLP/gRPC on connections that somebody else has accepted, and knows from where. */
export function createReceiver(
  options: ReceiverOptions,
  counts: Counts<ServerCount> = createCounts(),
): Receiver {
  const heard = { calls: 0 };
  let unserved = 0;
  const grpc = new Server({
    'grpc.max_receive_message_length': options.maxMessageBytes,
    'grpc.max_concurrent_streams': options.queueRequests + 1,
    'grpc.keepalive_time_ms': pingSeconds * 1000,
    'grpc.keepalive_timeout_ms': pongSeconds * 1000,
    interceptors: [beforeHandlers(options, counts, heard)],
  });
  const queue = { requests: 0, bytes: 0 };
  for (const signal of ['metrics', 'logs'] as const) {
    const handler = options.handlers[signal];
    if (!handler) continue;
    grpc.addService(
      { Export: exportMethod(signal) },
      { Export: answerWith(signal, handler, options, queue, counts, heard) },
    );
  }
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  return {
    accept: connection => injector.injectConnection(connection),
    counters: () => {
      // Those that are heard and have not ended hide as many until they have.
      const more = endedCalls(grpc) - heard.calls - unserved;
      if (more > 0) {
        unserved += more;
        counts.add('refused.unserved', more);
      }
      return counts.read();
    },
    stop: () => {
      grpc.forceShutdown();
      injector.destroy();
    },
  };
}

type Queue = { requests: number; bytes: number };
/** Calls of which a handler heard, or that were refused and counted before. */
type Heard = { calls: number };
type Respond = sendUnaryData<Buffer>;

function answerWith(
  signal: Signal,
  handler: ExportHandler,
  limits: { readonly queueRequests: number; readonly maxMessageBytes: number },
  queue: Queue,
  counts: Counts<ServerCount>,
  heard: Heard,
) {
  return ({ request }: ServerUnaryCall<Buffer, Buffer>, respond: Respond): void => {
    heard.calls++;
    const bytes = queue.bytes + request.byteLength;
    if (queue.requests >= limits.queueRequests || bytes > queueMessages * limits.maxMessageBytes) {
      counts.add('refused.queue-full');
      respondUnavailable(respond, 'the queue is full', fullRetrySeconds);
      return;
    }
    counts.add(`requests.${signal}`);
    queue.requests++;
    queue.bytes = bytes;
    outcomeOf(handler, request, counts)
      .then(outcome => respondWith(respond, outcome, counts))
      .finally(() => {
        queue.requests--;
        queue.bytes -= request.byteLength;
      });
  };
}

type Failed = { readonly kind: 'failed'; readonly message: string };

async function outcomeOf(
  handler: ExportHandler,
  request: Buffer,
  counts: Counts<ServerCount>,
): Promise<Outcome | Failed> {
  try {
    return await handler(request);
  } catch (error) {
    if (error instanceof ProtocolError) return { kind: 'invalid', message: describeError(error) };
    counts.add('refused.failed');
    return { kind: 'failed', message: describeError(error) };
  }
}

function respondWith(
  respond: Respond,
  outcome: Outcome | Failed,
  counts: Counts<ServerCount>,
): void {
  switch (outcome.kind) {
    case 'ok':
      respond(null, encodeExportResponse(null));
      return;
    case 'partial':
      counts.add('rejected-records', outcome.rejected);
      respond(null, encodeExportResponse(outcome));
      return;
    case 'invalid':
      counts.add('refused.malformed');
      respond({ code: status.INVALID_ARGUMENT, details: detailsOf(outcome) });
      return;
    case 'unavailable':
      counts.add('refused.unavailable');
      respondUnavailable(respond, 'not now', outcome.retryAfterSeconds);
      return;
    case 'failed':
      respond({ code: status.INTERNAL, details: detailsOf(outcome) });
  }
}

/** Of text with half a character, such as a message of JSON.parse() that cuts one, grpc-js makes no header: it throws, and nobody answers. */
function detailsOf({ message }: { readonly message: string }): string {
  return message.toWellFormed();
}

function respondUnavailable(respond: Respond, details: string, retryAfterSeconds: number): void {
  respond(unavailable(details, retryAfterSeconds));
}

function unavailable(details: string, retryAfterSeconds: number) {
  const metadata = new Metadata();
  metadata.set(statusDetailsKey, encodeRetryStatus(status.UNAVAILABLE, details, retryAfterSeconds));
  return { code: status.UNAVAILABLE, details, metadata };
}

/**
 * grpc-js refuses a message that is too large (also after decompression) before any handler or interceptor sees it:
 * only its own sendStatus tells. RESOURCE_EXHAUSTED is never ours.
 */
function beforeHandlers(
  { inflate, maxMessageBytes }: ReceiverOptions,
  counts: Counts<ServerCount>,
  heard: Heard,
): ServerInterceptor {
  return (_method, call) => {
    const send = call.sendStatus.bind(call);
    let isCounted = false;
    const count = (why: ServerCount): void => {
      // Each message of the call may be too large.
      if (isCounted) return;
      isCounted = true;
      heard.calls++;
      counts.add(why);
    };
    call.sendStatus = answered => {
      if (answered.code === status.RESOURCE_EXHAUSTED) count('refused.too-large');
      send(answered);
    };
    let refusal: ReturnType<typeof unavailable> | null = null;
    if (inflate)
      inflateBy(call, maxMessageBytes, run => {
        if (refusal) return refusal;
        const inflated = inflate(run);
        if (Buffer.isBuffer(inflated)) return inflated;
        count('refused.unavailable');
        refusal = unavailable('not now', inflated.retryAfterSeconds);
        return refusal;
      });
    return new ServerInterceptingCall(call);
  };
}
