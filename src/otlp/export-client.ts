import { describeError } from '../contract/errors.ts';
import { decodeExportResponse } from './export-response.ts';
import { createGrpcClient, type GrpcAnswer } from './grpc-client.ts';
import { grpcStatus, statusName } from './grpc-status.ts';
import { createPatience } from './patience.ts';
import { decodeRetryStatus } from './retry-info.ts';
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
  /** After this a call is given up, and may be sent again; of one that was given up so, the next has longer. What is under way at `close` has so long yet. */
  readonly timeoutSeconds?: number;
};

/** @see https://opentelemetry.io/docs/specs/otlp/#failures-1 RESOURCE_EXHAUSTED only when it comes with RetryInfo. */
const retryable: ReadonlySet<number> = new Set([
  grpcStatus.CANCELLED,
  grpcStatus.DEADLINE_EXCEEDED,
  grpcStatus.ABORTED,
  grpcStatus.OUT_OF_RANGE,
  grpcStatus.UNAVAILABLE,
  grpcStatus.DATA_LOSS,
]);

export function createExportClient(options: ExportClientOptions): ExportClient {
  const { endpoint, signal, timeoutSeconds = 10 } = options;
  const { path } = exportMethod(signal);
  const client = createGrpcClient({ endpoint, timeoutSeconds });
  const patience = createPatience(timeoutSeconds);
  return {
    close: client.close,
    send: async request => {
      const began = performance.now();
      const answer = await client.call(path, request, patience.seconds());
      patience.learn(answer.status, (performance.now() - began) / 1000);
      return answer.status === grpcStatus.OK ? success(answer.message) : failure(answer);
    },
  };
}

function success(response: Buffer): SendResult {
  try {
    const { rejected, message } = decodeExportResponse(response);
    return rejected > 0 ? { kind: 'partial', rejected, message } : { kind: 'ok' };
  } catch (error) {
    return { kind: 'refused', reason: `the answer is not OTLP: ${describeError(error)}` };
  }
}

function failure(answer: GrpcAnswer): SendResult {
  const reason = `${statusName(answer.status)}: ${answer.reason}`;
  const afterSeconds = retryDelay(answer);
  const again =
    retryable.has(answer.status) ||
    (answer.status === grpcStatus.RESOURCE_EXHAUSTED && afterSeconds !== null);
  return again ? { kind: 'retry', afterSeconds, reason } : { kind: 'refused', reason };
}

function retryDelay({ details }: GrpcAnswer): number | null {
  if (details === null) return null;
  try {
    return decodeRetryStatus(details);
  } catch {
    // A delay that cannot be read is a delay that was not given: the status itself still holds.
    return null;
  }
}
