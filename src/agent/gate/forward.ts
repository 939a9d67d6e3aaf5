import { createExportClient, type SendResult } from '../../otlp/export-client.ts';
import type { Signal } from '../../otlp/services.ts';
import { createShares } from './shares.ts';

/** `over-share`: it was not sent, since its guest has as much on the way as it may have beside the others. */
export type Forwarded = SendResult | { readonly kind: 'over-share'; readonly reason: string };

export type Send = (signal: Signal, request: Buffer) => Promise<Forwarded>;

/** Passes requests of guests on, each by itself: nothing is kept but what waits for its answer. */
export type Forward = {
  /** A way for one more guest. */
  readonly open: () => Send;
  readonly close: () => void;
};

export type ForwardOptions = {
  readonly endpoint: string;
  readonly maxGuests: number;
  readonly maxMessageBytes: number;
};

/** All guests together may have this much on the way. */
const mostBytes = 67_108_864;
/** And so many of the largest messages: of nothing else on the way one may be a quarter, and it grows by what says who speaks. */
const mostMessages = 8;

export function createForward({ endpoint, maxGuests, maxMessageBytes }: ForwardOptions): Forward {
  const clientOf = (signal: Signal) => createExportClient({ endpoint, signal, timeoutSeconds: 5 });
  const clients = { metrics: clientOf('metrics'), logs: clientOf('logs') };
  const openShare = createShares(Math.max(mostBytes, mostMessages * maxMessageBytes), maxGuests);
  return {
    open: () => {
      const share = openShare();
      return async (signal, request) => {
        const { byteLength } = request;
        if (!share.take(byteLength))
          return { kind: 'over-share', reason: 'too much of guests is on the way' };
        try {
          return await clients[signal].send(request);
        } finally {
          share.giveBack(byteLength);
        }
      };
    },
    close: () => {
      clients.metrics.close();
      clients.logs.close();
    },
  };
}
