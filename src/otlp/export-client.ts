import {
  type ChannelOptions,
  Client,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { describeError } from '../contract/errors.ts';
import { decodeExportResponse } from './export-response.ts';
import { decodeRetryStatus, statusDetailsKey } from './retry-info.ts';
import { exportMethod, type Signal } from './services.ts';

/** What the other end said. `retry`: nothing was taken, and the same request may be sent again. */
export type SendResult =
  | { readonly kind: 'ok' }
  | { readonly kind: 'partial'; readonly rejected: number; readonly message: string }
  | { readonly kind: 'retry'; readonly afterSeconds: number | null; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Sends whole Export requests, as bytes. Never throws: a failure is a result. */
export type ExportClient = {
  readonly send: (request: Uint8Array) => Promise<SendResult>;
  readonly close: () => void;
};

export type ExportClientOptions = {
  /** `unix:///path` and `http://host:port` in clear text, `https://host:port` with TLS. */
  readonly endpoint: string;
  readonly signal: Signal;
  /** After this the call is given up, and may be sent again. */
  readonly timeoutSeconds?: number;
};

/** @see https://opentelemetry.io/docs/specs/otlp/#failures-1 RESOURCE_EXHAUSTED only when it comes with RetryInfo. */
const retryable: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

const channelOptions: ChannelOptions = {
  // By default a part that starts after its sender would be found after up to two minutes.
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 500,
  'grpc.max_send_message_length': -1,
  // Retrying is the caller's, which bounds and counts it.
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
  // Nobody asks for its records of each call.
  'grpc.enable_channelz': 0,
};

export function createExportClient(options: ExportClientOptions): ExportClient {
  const method = exportMethod(options.signal);
  const timeoutMs = (options.timeoutSeconds ?? 10) * 1000;
  const client = new Client(
    targetOf(options.endpoint),
    credentialsOf(options.endpoint),
    channelOptions,
  );
  return {
    close: () => client.close(),
    send: request =>
      new Promise(resolve => {
        client.makeUnaryRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          Buffer.from(request.buffer, request.byteOffset, request.byteLength),
          new Metadata(),
          { deadline: Date.now() + timeoutMs },
          (error, response) => resolve(error ? failure(error) : success(response)),
        );
      }),
  };
}

function targetOf(endpoint: string): string {
  return endpoint.startsWith('unix:') ? endpoint : new URL(endpoint).host;
}

/** A unix socket is guarded by its mode and the peer's user; grpc-js would take TLS for it unless told. */
function credentialsOf(endpoint: string) {
  return endpoint.startsWith('https:') ? credentials.createSsl() : credentials.createInsecure();
}

function success(response: Buffer | undefined): SendResult {
  try {
    const { rejected, message } = decodeExportResponse(response ?? Buffer.alloc(0));
    return rejected > 0 ? { kind: 'partial', rejected, message } : { kind: 'ok' };
  } catch (error) {
    return { kind: 'refused', reason: `the answer is not OTLP: ${describeError(error)}` };
  }
}

function failure(error: ServiceError): SendResult {
  const reason = `${status[error.code] ?? error.code}: ${error.details}`;
  const afterSeconds = retryDelay(error);
  const again =
    retryable.has(error.code) ||
    (error.code === status.RESOURCE_EXHAUSTED && afterSeconds !== null);
  return again ? { kind: 'retry', afterSeconds, reason } : { kind: 'refused', reason };
}

function retryDelay(error: ServiceError): number | null {
  const details = error.metadata?.get(statusDetailsKey)[0];
  if (!(details instanceof Uint8Array)) return null;
  try {
    return decodeRetryStatus(details);
  } catch {
    // A delay that cannot be read is a delay that was not given: the status itself still holds.
    return null;
  }
}
