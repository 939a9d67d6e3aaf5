import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { LogEvent, ResourcePoints } from '../../../src/contract/telemetry.ts';
import { decodeLogs } from '../../../src/otlp/decode-logs.ts';
import { decodeMetrics } from '../../../src/otlp/decode-metrics.ts';
import { type Outcome, startOtlpServer } from '../../../src/otlp/server.ts';
import { ownUid, socketFolder } from '../../support/sockets.ts';

/** What stands where the host's collector is: a real OTLP server that keeps all it gets. */
export async function startSink(t: ExecutionContext) {
  const listen = join(socketFolder(t), 'sink.sock');
  const resources: ResourcePoints[] = [];
  const records: LogEvent[] = [];
  const sink: { answer: Outcome } = { answer: { kind: 'ok' } };
  const server = await startOtlpServer({
    listen,
    allowUids: [],
    maxMessageBytes: 16_000_000,
    queueRequests: 64,
    peerUid: ownUid,
    handlers: {
      metrics: async request => {
        if (sink.answer.kind === 'ok') resources.push(...decodeMetrics(request));
        return sink.answer;
      },
      logs: async request => {
        if (sink.answer.kind === 'ok') records.push(...decodeLogs(request));
        return sink.answer;
      },
    },
  });
  t.teardown(() => server.stop());
  return { endpoint: `unix://${listen}`, resources, records, sink, stop: server.stop };
}
