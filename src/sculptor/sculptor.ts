import type { Action } from '../contract/action.ts';
import type { ListenConfig } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import type { OutgoingEvent } from '../contract/events.ts';
import { attr, scopes } from '../contract/metrics.ts';
import type { Mode, Policy } from '../contract/policy.ts';
import type { Cancel, Running } from '../contract/ports.ts';
import type { Native } from '../linux/native.ts';
import type { Roots } from '../linux/roots.ts';
import { createEventsExporter } from '../otlp/events-exporter.ts';
import { type Losses, startLossMetric } from '../otlp/loss-metric.ts';
import { startOtlpServer } from '../otlp/server.ts';
import { uidsOf } from '../otlp/users.ts';
import { type CoreOptions, createCore } from './core.ts';
import { keptSeconds } from './headline-series.ts';
import { openStore } from './store.ts';

/** `timings`: how long each step of an action took, for benches. */
export type SculptorOptions = CoreOptions & {
  readonly sockets: ListenConfig;
  readonly native: Native;
  readonly roots: Roots;
  /** The user at the other end of a connected socket. */
  readonly peerUid: (fd: number) => number;
  /** In place of the exporter to `config.endpoint`. */
  readonly events?: EventSink;
};

/** Where action and policy events go. */
export type EventSink = {
  readonly emit: (event: OutgoingEvent) => void;
  readonly stop: () => Promise<void>;
  readonly counters: () => object;
};

export type SculptorStatus = {
  /** What holds for everything now: the strictest of the newest heartbeat's stamp and the ceiling. */
  readonly mode: Mode;
  readonly ceiling: Mode;
  /** Null before the first heartbeat. */
  readonly heartbeatAgeSeconds: number | null;
  readonly running: number;
  /** Actions that are over, and of which something could not be given back yet: tried again every 10 s. */
  readonly leftovers: number;
  readonly parked: number;
  readonly instances: number;
  readonly counters: {
    readonly intake: Readonly<Record<string, number>>;
    readonly server: object;
    readonly series: object;
    readonly events: object;
    readonly failures: number;
  };
};

export type Sculptor = Running & {
  readonly status: () => SculptorStatus;
  /** Newest first. */
  readonly actions: () => readonly Action[];
  /** @throws ConfigError CONFIG_REFUSED when no action of that id waits */
  readonly approve: (id: string) => void;
  readonly policy: () => Policy;
  /** Journalled; falling to observe or off restores at once. */
  readonly setCeiling: (mode: Mode) => void;
};

/** Leases, verdicts and dead-man switch are looked at so often: well below the 5 s in which a fallen mode must restore. */
const tickSeconds = 0.2;
const policySeconds = 60;
const pruneSeconds = 60;

/**
 * Starts the sculptor: first everything that a former life left open is given back, then it listens. `stop` gives back
 * everything it holds.
 * @throws SculptorError JOURNAL, ConfigError CONFIG_SOCKET, KernelInterfaceError KERNEL_BUSY, KERNEL_MISSING
 */
export async function startSculptor(options: SculptorOptions): Promise<Sculptor> {
  const { config } = options;
  const store = openStore({ ...options, journal: config.journal });
  const events = options.events ?? exporterOf(options);
  try {
    const core = createCore(options, store, events.emit);
    const server = await listen(options, core);
    const failures = { count: 0 };
    const timers = startTimers(options, core, failures);
    const losses = startLossMetric({
      endpoint: config.endpoint,
      scope: scopes.sculptor,
      service: 'sculptor',
      hostId: () => options.hostId,
      clock: options.clock,
      read: () => lostSamples(core),
    });
    core.tellPolicy();
    return {
      status: () =>
        statusOf(options, core, {
          intake: core.intake.counters(),
          server: server.counters(),
          series: core.series.counters,
          events: events.counters(),
          failures: failures.count,
        }),
      actions: core.log.list,
      approve: core.reception.approve,
      policy: core.policy,
      setCeiling: core.setCeiling,
      stop: async () => {
        for (const cancel of timers) cancel();
        // Given back before anything that could hang: sockets and peers come after.
        core.end();
        await server.stop();
        await losses.stop();
        await events.stop();
        store.close();
      },
    };
  } catch (error) {
    await events.stop();
    store.close();
    throw error;
  }
}

type Core = ReturnType<typeof createCore>;

function listen(options: SculptorOptions, { intake }: Core) {
  return startOtlpServer({
    listen: options.config.listen,
    allowUids: uidsOf(options.sockets.allowUsers),
    maxMessageBytes: options.sockets.maxMessageBytes,
    queueRequests: options.sockets.queueRequests,
    peerUid: options.peerUid,
    handlers: { logs: intake.logs, metrics: intake.metrics },
  });
}

/** A failure in a timer is counted and said; the sculptor goes on, since what it holds must be given back in time. */
function startTimers(
  { clock, say }: SculptorOptions,
  core: Core,
  failures: { count: number },
): Cancel[] {
  const every = (seconds: number, run: () => void) =>
    clock.every(seconds, () => {
      try {
        run();
      } catch (error) {
        failures.count += 1;
        say('error', `the sculptor goes on after: ${describeError(error)}`);
      }
    });
  return [
    every(tickSeconds, core.obeyMode),
    every(tickSeconds, core.executor.tick),
    every(tickSeconds, core.reception.tick),
    every(policySeconds, core.tellPolicy),
    every(pruneSeconds, core.prune),
  ];
}

function lostSamples({ series, intake }: Core): Losses {
  const { late, instancesDropped } = series.counters;
  const notCumulative = intake.counters()['ignored.not-cumulative'] ?? 0;
  return {
    late,
    evicted: instancesDropped,
    'not-cumulative': notCumulative,
    ...intake.skipped(),
  };
}

function statusOf(
  { clock }: SculptorOptions,
  { permission, executor, reception, series }: Core,
  counters: SculptorStatus['counters'],
): SculptorStatus {
  const age = permission.heartbeatAge();
  return {
    mode: permission.mode(),
    ceiling: permission.ceiling(),
    heartbeatAgeSeconds: Number.isFinite(age) ? age : null,
    running: executor.running().length,
    leftovers: executor.leftovers(),
    parked: reception.parked().length,
    instances: series.instances(clock.unixSeconds() - keptSeconds).length,
    counters,
  };
}

function exporterOf({ config, hostId, clock }: SculptorOptions): EventSink {
  return createEventsExporter({
    endpoint: config.endpoint,
    scope: scopes.sculptor,
    resource: {
      [attr.serviceName]: 'sculptor',
      [attr.serviceInstanceId]: hostId,
      [attr.hostId]: hostId,
    },
    clock,
  });
}
