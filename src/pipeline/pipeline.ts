import type { ListenConfig, PipelineConfig } from '../contract/config.ts';
import type { Mode } from '../contract/policy.ts';
import type { Clock, Running, Say } from '../contract/ports.ts';
import { createCounts } from '../otlp/counts.ts';
import { createExportClient } from '../otlp/export-client.ts';
import { createSendQueue, type SendQueue } from '../otlp/send-queue.ts';
import { type Outcome, startOtlpServer } from '../otlp/server.ts';
import type { Signal } from '../otlp/services.ts';
import { uidsOf } from '../otlp/users.ts';
import { type Destination, routeLogs } from './route-logs.ts';
import { withoutOwnMetrics } from './tap-metrics.ts';

export type PipelineOptions = {
  readonly config: PipelineConfig;
  readonly sockets: ListenConfig;
  /** The user at the other end of a connected socket (SO_PEERCRED). */
  readonly peerUid: (fd: number) => number;
  readonly clock: Clock;
  readonly say: Say;
};

export type Pipeline = Running & {
  readonly mode: () => Mode;
  /** The stamp of every record from now on. */
  readonly setMode: (mode: Mode) => void;
  /** By route and reason: `receiver.…`, `routed.…`, `dropped.…`, `engine.metrics.sent`, `sculptor.logs.lost.expired`, … */
  readonly counters: () => Readonly<Record<string, number>>;
};

/** Requests that wait for one destination and signal. */
const maxRequests = 256;
/** The engine expires recommendations after 30 s and the sculptor keeps 120 s of metrics: what is older is of no use. */
const maxAgeSeconds = 30;
const fullRetrySeconds = 0.5;
const stopGraceSeconds = 1;

type Queues = Readonly<Record<Destination, Readonly<Record<Signal, SendQueue>>>>;

/**
 * The embedded OTLP pipeline: takes the place of a collector on a machine that has none. Metrics go to the engine and the
 * sculptor; events go by their name, and what acts is stamped with the mode; nothing else goes anywhere.
 * @throws ConfigError CONFIG_SOCKET, CONFIG_INVALID (an unknown user in `allowUsers`)
 */
export async function startPipeline(options: PipelineOptions): Promise<Pipeline> {
  const { config, sockets, clock, say } = options;
  const counts = createCounts<PipelineCount>();
  const queues: Queues = {
    engine: queuesTo(config.engine, sockets, clock),
    sculptor: queuesTo(config.sculptor, sockets, clock),
  };
  let mode: Mode = config.mode;
  const server = await startOtlpServer({
    listen: config.listen,
    allowUids: uidsOf(sockets.allowUsers),
    maxMessageBytes: sockets.maxMessageBytes,
    queueRequests: sockets.queueRequests,
    peerUid: options.peerUid,
    handlers: {
      metrics: async request => tapMetrics(request, queues, counts.add),
      logs: async request => sortLogs(request, mode, queues, counts.add),
    },
  });
  say('info', `pipeline listens on ${config.listen}, mode ${mode}`);
  return {
    mode: () => mode,
    setMode: wanted => {
      if (wanted !== mode) say('info', `pipeline: mode ${mode} → ${wanted}`);
      mode = wanted;
    },
    counters: () => ({
      ...prefixed('receiver', server.counters()),
      ...counts.read(),
      ...queueCounters(queues),
    }),
    stop: async () => {
      await server.stop();
      await Promise.all(allQueues(queues).map(([, queue]) => queue.stop(stopGraceSeconds)));
    },
  };
}

type PipelineCount =
  | `routed.${Destination}.${'records' | 'requests'}`
  | `dropped.${'unnamed' | 'unrouted' | 'own-metrics'}`;
type Add = (key: PipelineCount, amount?: number) => void;

/** A copy to each, never refused: a destination that is dead or slow loses its oldest copies, and that is counted. */
function tapMetrics(request: Buffer, queues: Queues, add: Add): Outcome {
  const forEngine = withoutOwnMetrics(request);
  if (forEngine !== request) add('dropped.own-metrics');
  if (forEngine) {
    add('routed.engine.requests');
    queues.engine.metrics.push(forEngine);
  }
  add('routed.sculptor.requests');
  queues.sculptor.metrics.push(request);
  return { kind: 'ok' };
}

/** Events are never dropped for newer ones here: a full queue is the sender's to wait for. */
function sortLogs(request: Buffer, mode: Mode, queues: Queues, add: Add): Outcome {
  const routed = routeLogs(request, mode);
  const { engine, sculptor } = routed;
  const room =
    (!engine || queues.engine.logs.hasRoom(engine.byteLength)) &&
    (!sculptor || queues.sculptor.logs.hasRoom(sculptor.byteLength));
  if (!room) return { kind: 'unavailable', retryAfterSeconds: fullRetrySeconds };
  if (engine) queues.engine.logs.push(engine);
  if (sculptor) queues.sculptor.logs.push(sculptor);
  addSome(add, 'routed.engine.records', routed.records.engine);
  addSome(add, 'routed.sculptor.records', routed.records.sculptor);
  addSome(add, 'dropped.unnamed', routed.dropped.unnamed);
  addSome(add, 'dropped.unrouted', routed.dropped.unrouted);
  return { kind: 'ok' };
}

function addSome(add: Add, key: PipelineCount, amount: number): void {
  if (amount > 0) add(key, amount);
}

function queuesTo(
  endpoint: string,
  sockets: ListenConfig,
  clock: Clock,
): Record<Signal, SendQueue> {
  const queue = (signal: Signal) =>
    createSendQueue({
      client: createExportClient({ endpoint, signal, timeoutSeconds: 5 }),
      clock,
      maxRequests,
      maxBytes: 2 * sockets.maxMessageBytes,
      maxAgeSeconds,
    });
  return { metrics: queue('metrics'), logs: queue('logs') };
}

function allQueues(queues: Queues): (readonly [string, SendQueue])[] {
  return Object.entries(queues).flatMap(([to, signals]) =>
    Object.entries(signals).map(([signal, queue]) => [`${to}.${signal}`, queue] as const),
  );
}

function queueCounters(queues: Queues): Record<string, number> {
  return Object.assign({}, ...allQueues(queues).map(([name, q]) => prefixed(name, q.counters())));
}

function prefixed(prefix: string, counters: Readonly<Record<string, number>>) {
  return Object.fromEntries(Object.entries(counters).map(([k, n]) => [`${prefix}.${k}`, n]));
}
