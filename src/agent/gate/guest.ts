import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { ProtocolError } from '../../contract/errors.ts';
import type { GateConfig } from '../../contract/gate-config.ts';
import type { Instance } from '../../contract/instance.ts';
import type { Clock } from '../../contract/ports.ts';
import { type RewriteRules, type Rewritten, rewriteRequest } from '../../otlp/rewrite-request.ts';
import {
  createReceiver,
  type Outcome,
  type ServerCount,
  type Unavailable,
} from '../../otlp/server.ts';
import type { Signal } from '../../otlp/services.ts';
import type { Identity } from '../resources.ts';
import { createBudget, timed } from './budget.ts';
import { createDrops, type DropReason, type Drops } from './drops.ts';
import type { Forwarded, Send } from './forward.ts';
import { createGuestViewer, type GuestView } from './guest-view.ts';
import { guestAttributes, isForbiddenEvent, isIdentity } from './identity.ts';
import { createSeriesBound } from './series-bound.ts';
import { createWire } from './wire.ts';

export type GuestOptions = {
  readonly host: Identity;
  readonly instance: Instance;
  readonly config: GateConfig;
  readonly forward: Send;
  /** The gate's; a guest's own are beside them. */
  readonly drops: Drops;
  /** Called with the records that were delivered. */
  readonly delivered: (records: number) => void;
  readonly clock: Clock;
};

export type GuestStatus = {
  readonly instance: Instance;
  /** Where it came from last, such as `vsock 3`. */
  readonly via: string;
  readonly connections: number;
  /** Points and log records that the endpoint took. */
  readonly records: number;
  readonly dropped: Readonly<Partial<Record<DropReason, number>>>;
  /** Why the endpoint did not take the last request; null when it did. */
  readonly lastFailure: string | null;
};

/** One guest: all its connections, under one identity that no request can change, and with one budget. */
export type Guest = {
  /** Serves a connection, or ends it when the guest has too many. */
  readonly accept: (connection: Socket, via: string) => void;
  /** To be called now and then: counts what gRPC has refused by itself, and heeds it, and how much came. */
  readonly look: () => void;
  readonly status: () => GuestStatus;
  readonly view: () => GuestView;
  readonly stop: () => void;
};

/** Requests that may wait for the endpoint. */
const queueRequests = 2;
/** A guest comes back after this when nobody says when. */
const retrySeconds = 1;
/**
 * Requests that are refused cost the agent time too: a guest that goes on at more than this is cut off, and not let in
 * again until it has made up for it. One that heeds what it is told never comes near.
 */
const nuisancePerSecond = 50;
/** Reading bytes costs as well when no record comes out: this many count as one. */
const bytesPerRecord = 1024;
/** So does a request with nothing in it. An agent makes six requests a second where many instances contend. */
const requestsPerSecond = 100;
/** And so does a connection on which nothing is said: 0.2 ms, and a quarter of it where it is refused. An agent has two. */
const connectionsPerSecond = 20;
/**
 * What is not taken is sent again, so a guest may send this many times the bytes that it may say. Frames of HTTP/2 that are of no
 * request are among them: 200 MB/s of window updates take a core.
 */
const sentPerSaid = 2;
/** In the mean; ours have five. So a request that is nothing but attributes holds nobody up for long. */
const attributesPerRecord = 8;

/** What the receiver itself refuses. */
const refusals: { readonly [count in ServerCount]?: DropReason } = {
  'refused.queue-full': 'request_queue_full',
  'refused.too-large': 'request_too_large',
  'refused.failed': 'request_failed',
  'refused.unserved': 'request_unserved',
};

export function createGuest(options: GuestOptions): Guest {
  const { config, instance, forward } = options;
  const drops = createDrops(options.drops);
  const budget = createBudget(config.recordsPerSecond, options.clock);
  const requests = createBudget(requestsPerSecond, options.clock);
  const nuisance = createBudget(nuisancePerSecond, options.clock);
  const cpu = createBudget(config.maxCores, options.clock);
  const dials = createBudget(connectionsPerSecond, options.clock);
  const series = createSeriesBound(config.maxSeries, options.clock);
  const wire = createWire(
    sentPerSaid * bytesPerRecord * config.recordsPerSecond,
    (queueRequests + 1) * config.maxConnections * config.maxMessageBytes,
    options.clock,
  );
  const connections = new Set<Socket>();
  const rules: RewriteRules = {
    isIdentity,
    isForbiddenEvent,
    identify: guestAttributes(options.host, instance),
    maxResources: config.maxResources,
    maxRecords: config.maxRecords,
    maxAttributes: config.maxRecords * attributesPerRecord,
    takesSeries: series.takes,
    seriesSecret: randomBytes(32),
  };
  const viewer = createGuestViewer();
  /** What was inflated is not refused for what that took: it would be each time. */
  const letIn = new WeakSet<Buffer>();
  let via = '';
  let records = 0;
  let lastFailure: string | null = null;

  const refuse = (reason: DropReason, amount = 1): void => {
    drops.add(reason, amount);
    nuisance.spend(amount);
    if (nuisance.waitSeconds() > 0) cutOff();
  };

  const cutOff = (): void => {
    for (const connection of connections) {
      // It is among them until it has closed.
      if (connection.destroyed) continue;
      drops.add('connection_nuisance');
      connection.destroy();
    }
  };

  const read = (signal: Signal, request: Buffer): Rewritten => {
    const rewritten = rewriteRequest(signal, request, rules);
    if (signal === 'metrics') viewer.look(request, options.clock.unixSeconds());
    return rewritten;
  };

  const overRate = (): Unavailable | null => {
    const wait = Math.max(...[budget, requests, cpu].map(each => each.waitSeconds()));
    if (wait === 0) return null;
    refuse('request_over_rate');
    return { kind: 'unavailable', retryAfterSeconds: wait };
  };

  const inflate = (run: () => Buffer): Buffer | Unavailable => {
    const tooSoon = overRate();
    if (tooSoon) return tooSoon;
    const inflated = timed(cpu, run);
    letIn.add(inflated);
    return inflated;
  };

  const take = async (signal: Signal, request: Buffer): Promise<Outcome> => {
    const tooSoon = letIn.has(request) ? null : overRate();
    if (tooSoon) return tooSoon;
    requests.spend(1);
    budget.spend(request.byteLength / bytesPerRecord);
    const rewritten = counted(() => timed(cpu, () => read(signal, request)), refuse);
    const { forbiddenEvents, overSeries } = rewritten;
    budget.spend(rewritten.records + overSeries);
    if (forbiddenEvents > 0) drops.add('event_forbidden', forbiddenEvents);
    if (overSeries > 0) drops.add('record_too_many_series', overSeries);
    if (!rewritten.request) return outcome({ rejected: 0, forbiddenEvents, overSeries });
    const result = await forward(signal, rewritten.request);
    lastFailure = 'reason' in result ? result.reason : null;
    const refused = refusalOf(result, drops);
    if (refused) return refused;
    const rejected = result.kind === 'partial' ? result.rejected : 0;
    if (rejected > 0) drops.add('record_endpoint_rejected', rejected);
    const taken = Math.max(0, rewritten.records - rejected);
    records += taken;
    options.delivered(taken);
    return outcome({ rejected, forbiddenEvents, overSeries });
  };

  const receiver = createReceiver(
    {
      maxMessageBytes: config.maxMessageBytes,
      queueRequests,
      handlers: {
        metrics: request => take('metrics', request),
        logs: request => take('logs', request),
      },
      inflate,
    },
    {
      add: (count, amount) => {
        const reason = refusals[count];
        if (reason) refuse(reason, amount);
      },
      read: () => ({}),
    },
  );

  const refusalOfConnection = (): DropReason | null => {
    if (connections.size >= config.maxConnections) return 'connection_too_many';
    const wait = Math.max(nuisance.waitSeconds(), dials.waitSeconds());
    return wait > 0 || wire.floods() ? 'connection_nuisance' : null;
  };

  return {
    accept: (connection, from) => {
      const reason = refusalOfConnection();
      if (reason) {
        drops.add(reason);
        connection.destroy();
        return;
      }
      dials.spend(1);
      via = from;
      connections.add(connection);
      connection.once('close', () => {
        wire.hear(connection);
        connections.delete(connection);
      });
      receiver.accept(connection);
    },
    look: () => {
      receiver.counters();
      for (const connection of connections) wire.hear(connection);
      if (wire.floods()) cutOff();
    },
    status: () => ({
      instance,
      via,
      connections: connections.size,
      records,
      dropped: drops.read(),
      lastFailure,
    }),
    view: viewer.view,
    stop: () => {
      receiver.stop();
      for (const connection of connections) connection.destroy();
    },
  };
}

/** @throws ProtocolError OTLP_MALFORMED, OTLP_TOO_MANY, which are counted */
function counted<T>(read: () => T, refuse: (reason: DropReason) => void): T {
  try {
    return read();
  } catch (error) {
    // Whatever else it is, the receiver counts.
    if (error instanceof ProtocolError) refuse(reasonOf(error));
    throw error;
  }
}

function reasonOf(error: ProtocolError): DropReason {
  if (error.code !== 'OTLP_TOO_MANY') return 'request_malformed';
  const { at } = error.context;
  return at === 'resources' || at === 'attributes'
    ? `request_too_many_${at}`
    : 'request_too_many_records';
}

/** What the endpoint did not take is not acknowledged either; null when it was taken. */
function refusalOf(result: Forwarded, drops: Drops): Outcome | null {
  if (result.kind === 'over-share') {
    drops.add('request_over_share');
    return { kind: 'unavailable', retryAfterSeconds: retrySeconds };
  }
  if (result.kind === 'retry') {
    drops.add('request_endpoint_unavailable');
    return { kind: 'unavailable', retryAfterSeconds: result.afterSeconds ?? retrySeconds };
  }
  if (result.kind === 'refused') {
    drops.add('request_endpoint_refused');
    return { kind: 'invalid', message: 'the endpoint of the host refused it' };
  }
  return null;
}

/** A guest is told what became of its own, and nothing of what is behind the gate. */
function outcome(left: Record<'rejected' | 'forbiddenEvents' | 'overSeries', number>): Outcome {
  const why = {
    forbiddenEvents: 'events sculptor.*, which are not taken from a guest',
    overSeries: 'records of more series than the gate takes of a guest in ten minutes',
    rejected: 'records that the endpoint of the host rejected',
  };
  const kinds = (['forbiddenEvents', 'overSeries', 'rejected'] as const).filter(
    kind => left[kind] > 0,
  );
  if (kinds.length === 0) return { kind: 'ok' };
  const rejected = kinds.reduce((sum, kind) => sum + left[kind], 0);
  const message = kinds.map(kind => `${left[kind]} ${why[kind]}`).join('; ');
  return { kind: 'partial', rejected, message };
}
