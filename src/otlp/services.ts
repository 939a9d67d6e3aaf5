import type { MethodDefinition } from '@grpc/grpc-js';

export type Signal = 'metrics' | 'logs';

const asIs = (bytes: Buffer): Buffer => bytes;

/** The Export method of a signal over raw bytes: what crosses it is encoded and decoded by our own code. */
export function exportMethod(signal: Signal): MethodDefinition<Buffer, Buffer> {
  const service = signal === 'metrics' ? 'MetricsService' : 'LogsService';
  return {
    path: `/opentelemetry.proto.collector.${signal}.v1.${service}/Export`,
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}
