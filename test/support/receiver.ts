import type { LogEvent, ResourcePoints } from '../../src/contract/telemetry.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import { startOtlpServer } from '../../src/otlp/server.ts';
import { ownUid } from './sockets.ts';

/** What stands where a collector is: it keeps all that it is told, in the order of arrival. */
export type Receiver = {
  readonly resources: readonly ResourcePoints[];
  readonly events: readonly LogEvent[];
  readonly stop: () => Promise<void>;
};

/**
 * `listen`: path of its unix socket. `allowUids`: who may tell it, beside the own user. `takes`: whether it takes the metrics of a
 * request, or can take none just now.
 */
export async function startReceiver(
  listen: string,
  allowUids: readonly number[] = [],
  takes: () => boolean = () => true,
): Promise<Receiver> {
  const resources: ResourcePoints[] = [];
  const events: LogEvent[] = [];
  const server = await startOtlpServer({
    listen,
    allowUids,
    maxMessageBytes: 1 << 24,
    queueRequests: 64,
    peerUid: ownUid,
    handlers: {
      metrics: async request => {
        if (!takes()) return { kind: 'unavailable', retryAfterSeconds: 1 };
        resources.push(...decodeMetrics(request));
        return { kind: 'ok' };
      },
      logs: async request => {
        events.push(...decodeLogs(request));
        return { kind: 'ok' };
      },
    },
  });
  return { resources, events, stop: () => server.stop() };
}
