import { createExportClient, type SendResult } from '../../otlp/export-client.ts';
import type { Signal } from '../../otlp/services.ts';

/** Passes requests of guests on, each by itself: nothing is kept but what waits for its answer. */
export type Forward = {
  readonly send: (signal: Signal, request: Buffer) => Promise<SendResult>;
  readonly close: () => void;
};

/** All guests together may have this much on the way. */
const maxBytes = 67_108_864;

export function createForward(endpoint: string): Forward {
  const clientOf = (signal: Signal) => createExportClient({ endpoint, signal, timeoutSeconds: 5 });
  const clients = { metrics: clientOf('metrics'), logs: clientOf('logs') };
  let bytes = 0;
  return {
    send: async (signal, request) => {
      if (bytes + request.byteLength > maxBytes)
        return { kind: 'retry', afterSeconds: null, reason: 'too much of guests is on the way' };
      bytes += request.byteLength;
      try {
        return await clients[signal].send(request);
      } finally {
        bytes -= request.byteLength;
      }
    },
    close: () => {
      clients.metrics.close();
      clients.logs.close();
    },
  };
}
