import type { KeyObject } from 'node:crypto';
import type { Action } from '../contract/action.ts';
import type { ListenConfig, SculptorConfig } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import type { OutgoingEvent } from '../contract/events.ts';
import { attr, scopes } from '../contract/metrics.ts';
import type { Mode, Policy } from '../contract/policy.ts';
import type { Clock, Running, Say } from '../contract/ports.ts';
import type { Native } from '../linux/native.ts';
import type { Roots } from '../linux/roots.ts';
import { createEventsExporter } from '../otlp/events-exporter.ts';
import { plainEvent } from '../otlp/plain-event.ts';
import { startOtlpServer } from '../otlp/server.ts';
import { uidsOf } from '../otlp/users.ts';
import { actionSentence, createActionLog } from './action-log.ts';
import { problem } from './actuators/cgroup-file.ts';
import type { ActionTimings } from './apply.ts';
import { createExecutor } from './executor.ts';
import { createHeadlineSeries, keptSeconds } from './headline-series.ts';
import { createHistory } from './history.ts';
import { createIntake } from './intake.ts';
import { openJournal } from './journal.ts';
import { lockJournal } from './journal-lock.ts';
import { bootId, openKernel } from './kernel.ts';
import { createPermission } from './permission.ts';
import { createReception } from './reception.ts';
import { restoreOpen } from './restore.ts';

export type SculptorOptions = {
  readonly config: SculptorConfig;
  readonly sockets: ListenConfig;
  readonly hostId: string;
  readonly native: Native;
  readonly roots: Roots;
  /** The user at the other end of a connected socket. */
  readonly peerUid: (fd: number) => number;
  /** Public keys of the engines whose events are acted on. */
  readonly trustedKeys: readonly KeyObject[];
  readonly clock: Clock;
  readonly say: Say;
  /** How long each step of an action took, for benches. */
  readonly timings?: (timings: ActionTimings) => void;
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
 * @throws SculptorError JOURNAL, ConfigError CONFIG_SOCKET, KernelInterfaceError KERNEL_MISSING
 */
export async function startSculptor(options: SculptorOptions): Promise<Sculptor> {
  const { config, clock, say, roots, hostId } = options;
  const journal = openJournal(config.journal, bootId(roots));
  const undoneOnFailure: (() => void)[] = [journal.close];
  try {
    const lock = lockJournal(journal, roots);
    undoneOnFailure.unshift(lock.release);
    const { kernel: opened, close: closeKernel } = openKernel(options.native, roots, say);
    const kernel = { ...opened, relaxed: journal.relaxed };
    undoneOnFailure.unshift(closeKernel);
    const events = options.events ?? exporterOf(options);
    const emit = deferred(events.emit);
    const emitAction = (action: Action) =>
      emit(() => plainEvent('sculptor.action', action, actionSentence(action)));

    const recovered = restoreOpen(kernel, journal, say, {
      reason: problem('crash-recovery', 'a former life of the sculptor left it open'),
      at: clock.unixSeconds(),
    });
    for (const action of recovered.ended) emitAction(action);

    const past = journal.recentActions(500);
    const series = createHeadlineSeries();
    const history = createHistory(past);
    const log = createActionLog({ hostId, clock, emit: emitAction, past });
    const permission = createPermission({ config, journal, clock });
    const parts = { config, kernel, journal, series, history, log, clock, say };
    const executor = createExecutor({
      ...parts,
      ...(options.timings ? { timings: options.timings } : {}),
    });
    const reception = createReception({ ...parts, permission, executor });

    /** The dead-man switch and a fallen mode. */
    const obeyMode = () => {
      if (executor.running().length === 0) return;
      const mode = permission.mode();
      if (mode === 'enforce' || mode === 'approve') return;
      const silent = permission.heartbeatAge() > config.modeLeaseSeconds;
      executor.finishAll(
        'restored',
        silent
          ? problem('no-heartbeat', `no heartbeat for ${config.modeLeaseSeconds} s`)
          : problem('mode', `the mode fell to ${mode}`),
      );
    };
    const policy = (): Policy => ({ ...config.policy, ceiling: permission.ceiling() });
    const emitPolicy = () =>
      emit(() =>
        plainEvent(
          'sculptor.policy',
          { hostId, at: clock.unixSeconds(), policy: policy() },
          `the sculptor's policy: ceiling ${permission.ceiling()}`,
        ),
      );
    const intake = createIntake({
      ...{ hostId, trustedKeys: options.trustedKeys, series, permission, reception, say },
      heard: obeyMode,
    });
    const server = await startOtlpServer({
      listen: config.listen,
      allowUids: uidsOf(options.sockets.allowUsers),
      maxMessageBytes: options.sockets.maxMessageBytes,
      queueRequests: options.sockets.queueRequests,
      peerUid: options.peerUid,
      handlers: { logs: intake.logs, metrics: intake.metrics },
    });
    let failures = 0;
    const guarded = (run: () => void) => () => {
      try {
        run();
      } catch (error) {
        failures += 1;
        say('error', `the sculptor goes on after: ${describeError(error)}`);
      }
    };
    const timers = [
      clock.every(tickSeconds, guarded(obeyMode)),
      clock.every(tickSeconds, guarded(executor.tick)),
      clock.every(tickSeconds, guarded(reception.tick)),
      clock.every(policySeconds, guarded(emitPolicy)),
      clock.every(
        pruneSeconds,
        guarded(() => {
          const now = clock.unixSeconds();
          journal.prune(now);
          history.prune(now);
          series.forget(now - keptSeconds);
        }),
      ),
    ];
    emitPolicy();
    return {
      status: () => ({
        mode: permission.mode(),
        ceiling: permission.ceiling(),
        heartbeatAgeSeconds: Number.isFinite(permission.heartbeatAge())
          ? permission.heartbeatAge()
          : null,
        running: executor.running().length,
        parked: reception.parked().length,
        instances: series.instances(clock.unixSeconds() - keptSeconds).length,
        counters: {
          intake: intake.counters(),
          server: server.counters(),
          series: series.counters,
          events: events.counters(),
          failures,
        },
      }),
      actions: log.list,
      approve: reception.approve,
      policy,
      setCeiling: mode => {
        permission.setCeiling(mode);
        emitPolicy();
        obeyMode();
      },
      stop: async () => {
        for (const cancel of timers) cancel();
        // Given back before anything that could hang: sockets and peers come after.
        executor.finishAll('restored', problem('shutdown', 'the sculptor ends'));
        reception.close();
        await server.stop();
        await Promise.resolve();
        await events.stop();
        closeKernel();
        lock.release();
        journal.close();
      },
    };
  } catch (error) {
    for (const undo of undoneOnFailure) undo();
    throw error;
  }
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

/** Events are made and sent after the synchronous path that caused them: encoding a thousand allocations is no part of acting. */
function deferred(emit: (event: OutgoingEvent) => void): (make: () => OutgoingEvent) => void {
  let queue: (() => OutgoingEvent)[] = [];
  return make => {
    if (queue.length === 0) {
      queueMicrotask(() => {
        const makes = queue;
        queue = [];
        for (const each of makes) emit(each());
      });
    }
    queue.push(make);
  };
}
