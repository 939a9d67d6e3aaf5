// A cheap receiver in a process of its own: `sink.ts SOCKET`, forked; any message is answered with what has come so far.
import { costMetrics } from '../src/contract/metrics/agent.ts';
import { headlineMetrics } from '../src/contract/metrics.ts';
import { loadNative } from '../src/linux/native.ts';
import { decodeMetrics } from '../src/otlp/decode-metrics.ts';
import { startOtlpServer } from '../src/otlp/server.ts';

/** What a sink answers, since it was started. */
export type SinkReading = {
  readonly requests: number;
  readonly bytes: number;
  readonly points: number;
  /** Points by metric. */
  readonly metrics: Readonly<Record<string, number>>;
  /** The last value of each headline series, of context switches and of what the agent takes, by instance, and by metric and attributes. */
  readonly totals: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** When each instance was told last; seconds since the epoch. */
  readonly toldAt: Readonly<Record<string, number>>;
  /** The last values of `sculptor.agent.events.lost`, by reason. */
  readonly lost: Readonly<Record<string, number>>;
  /** The last value of `sculptor.agent.events.recovered`. */
  readonly recovered: number;
};

const kept: ReadonlySet<string> = new Set([
  ...headlineMetrics,
  'sculptor.cpu.context_switches',
  ...Object.keys(costMetrics),
]);
const metrics: Record<string, number> = {};
const totals: Record<string, Record<string, number>> = {};
const toldAt: Record<string, number> = {};
const lost: Record<string, number> = {};
let [requests, bytes, points, recovered] = [0, 0, 0, 0];

function take(request: Buffer): void {
  requests += 1;
  bytes += request.length;
  for (const { resource, points: told } of decodeMetrics(request)) {
    const instance = String(resource['sculptor.instance.id']);
    toldAt[instance] = Date.now() / 1000;
    for (const { metric, value, attributes } of told) {
      points += 1;
      metrics[metric] = (metrics[metric] ?? 0) + 1;
      if (metric === 'sculptor.agent.events.lost')
        lost[String(Object.values(attributes)[0])] = Number(value);
      if (metric === 'sculptor.agent.events.recovered') recovered = Number(value);
      if (!kept.has(metric)) continue;
      totals[instance] ??= {};
      totals[instance][[metric, ...Object.values(attributes)].join(' ')] = Number(value);
    }
  }
}

const native = loadNative();
const server = await startOtlpServer({
  listen: process.argv[2] ?? '',
  allowUids: [process.getuid?.() ?? 0],
  maxMessageBytes: 1 << 24,
  queueRequests: 64,
  peerUid: fd => native.peerCredentials(fd).uid,
  handlers: {
    metrics: async request => {
      take(request);
      return { kind: 'ok' };
    },
    logs: async () => ({ kind: 'ok' }),
  },
});
process.on('message', () => {
  const reading: SinkReading = {
    ...{ requests, bytes, points, recovered },
    ...{ metrics, totals, toldAt, lost },
  };
  process.send?.(reading);
});
process.once('disconnect', () => void server.stop().then(() => process.exit(0)));
process.send?.('ready');
