import { type KeyObject, randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { EngineConfig, ListenConfig } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import { attr, scopes } from '../contract/metrics.ts';
import type { Clock, Running, Say } from '../contract/ports.ts';
import type { ModelIdentity, Recommendation } from '../contract/recommendation.ts';
import { decodeLogs } from '../otlp/decode-logs.ts';
import { decodeMetrics } from '../otlp/decode-metrics.ts';
import type { Skipped } from '../otlp/decode-points.ts';
import { createEventsExporter } from '../otlp/events-exporter.ts';
import { type Losses, startLossMetric } from '../otlp/loss-metric.ts';
import { type Outcome, startOtlpServer } from '../otlp/server.ts';
import { signedEvent } from '../otlp/signing.ts';
import type { PeerUid } from '../otlp/unix-socket.ts';
import { uidsOf } from '../otlp/users.ts';
import { createCore, type Output } from './core.ts';
import { createForecasting } from './forecasting.ts';
import { createIntake, takenMetrics } from './intake.ts';
import { defaultModelFolder, startForecaster } from './models/forecaster.ts';
import type { Verdict } from './verdict.ts';

export type EngineOptions = {
  readonly config: EngineConfig;
  readonly sockets: ListenConfig;
  readonly peerUid: PeerUid | null;
  /** Ed25519; signs everything that is acted on. */
  readonly privateKey: KeyObject;
  readonly clock: Clock;
  readonly say: Say;
  /** Folder of the model; absent: the one that ships. */
  readonly model?: string;
};

export type EngineStatus = {
  readonly hostId: string | null;
  readonly epoch: number;
  readonly sequence: number;
  readonly model: ModelIdentity;
  readonly instances: number;
  /** Series on which the model has been worse than simple forecasts, and who forecasts them instead. */
  readonly fallenBack: readonly { readonly instance: string; readonly by: string }[];
  readonly counters: Readonly<Record<string, number>>;
  readonly lastFailure: string | null;
};

export type Engine = Running & {
  readonly status: () => EngineStatus;
  /** The newest recommendations, newest first; at most 100. */
  readonly recommendations: () => Recommendation[];
  readonly verdicts: () => Verdict[];
};

const keptRecommendations = 100;

/**
 * Listens to metrics and events, forecasts, and tells what it would move. It knows the host from events alone.
 * @throws ModelError when the model is not what its manifest says; ConfigError CONFIG_SOCKET
 */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { config, sockets, clock, say, privateKey } = options;
  const forecaster = await startForecaster({
    folder: options.model ?? config.model ?? defaultModelFolder(),
    clock,
    say,
  });
  const core = createCore({ config, model: forecaster.identity, newId: randomUUID });
  const intake = createIntake(core);
  const forecasting = createForecasting(forecaster, say);
  const events = createEventsExporter({
    endpoint: config.endpoint,
    scope: scopes.engine,
    resource: { [attr.serviceName]: 'sculptor-engine' },
    clock,
    // Nobody acts on a recommendation that is older than this.
    maxAgeSeconds: config.expirySeconds,
  });
  const epoch = Math.round(clock.unixSeconds() * 1000);
  /** Log records without an event name. */
  const skipped = { unnamed: 0 };
  const skippedPoints: Skipped = {};
  let sequence = 0;
  let recent: Recommendation[] = [];

  const tell = ({ recommendations, withdrawals }: Output): void => {
    for (const recommendation of recommendations) {
      recent = [recommendation, ...recent].slice(0, keptRecommendations);
      events.emit(
        signedEvent(
          'sculptor.recommendation',
          recommendation,
          privateKey,
          recommendation.evidence.summary,
        ),
      );
    }
    for (const withdrawal of withdrawals) {
      events.emit(
        signedEvent(
          'sculptor.withdrawal',
          withdrawal,
          privateKey,
          `give back ${withdrawal.actionId}: ${withdrawal.reason}`,
        ),
      );
    }
  };

  const takeMetrics = async (request: Buffer): Promise<Outcome> => {
    const fresh = intake.metrics(decodeMetrics(request, skippedPoints, takenMetrics));
    // Of many instances either takes long: what else is due comes in between.
    await nextTurn();
    // Judged as they arrive: the 1 s clock would add half a second to the time to act.
    tell(core.judge(clock.unixSeconds(), fresh));
    return { kind: 'ok' };
  };

  const takeLogs = async (request: Buffer): Promise<Outcome> => {
    const refused = intake.events(decodeLogs(request, skipped));
    return refused.length === 0
      ? { kind: 'ok' }
      : { kind: 'partial', rejected: refused.length, message: refused.join('; ').slice(0, 1000) };
  };

  const server = await startOtlpServer({
    listen: config.listen,
    allowUids: uidsOf(sockets.allowUsers),
    maxMessageBytes: sockets.maxMessageBytes,
    queueRequests: sockets.queueRequests,
    peerUid: options.peerUid,
    handlers: { metrics: takeMetrics, logs: takeLogs },
  });

  const lostSamples = (): Losses => {
    const { late, incomplete, notCumulative, evicted } = core.series.counters();
    return { late, incomplete, 'not-cumulative': notCumulative, evicted, ...skippedPoints };
  };
  const losses = startLossMetric({
    endpoint: config.endpoint,
    scope: scopes.engine,
    service: 'sculptor-engine',
    hostId: () => core.host.id ?? undefined,
    clock,
    read: lostSamples,
  });

  const beat = (): void => {
    const hostId = core.host.id;
    // Before an agent was heard there is no host to answer for: an engine that hears nothing must not hold what another began.
    if (hostId === null) return;
    sequence += 1;
    const heartbeat = { hostId, created: clock.unixSeconds(), epoch, sequence };
    events.emit(
      signedEvent(
        'sculptor.heartbeat',
        heartbeat,
        privateKey,
        `heartbeat ${sequence} of epoch ${epoch}`,
      ),
    );
  };

  let forecastUnderWay = false;
  const think = async (): Promise<void> => {
    // A slow model delays forecasts, never heartbeats or the fast judgement.
    if (forecastUnderWay) return;
    forecastUnderWay = true;
    await forecasting
      .run(core, clock.unixSeconds() - config.stepSeconds)
      .finally(() => (forecastUnderWay = false));
    await nextTurn();
    tell(core.judge(clock.unixSeconds()));
  };

  const cancels = [
    clock.every(config.heartbeatSeconds, beat),
    clock.every(config.stepSeconds, () => {
      think().catch((error: unknown) =>
        say('error', `engine: this step was not judged: ${describeError(error)}`),
      );
    }),
  ];
  say(
    'info',
    `engine: model ${forecaster.identity.name} ${forecaster.identity.version}, listening on ${config.listen}`,
  );

  return {
    status: () => ({
      hostId: core.host.id,
      epoch,
      sequence,
      model: forecaster.identity,
      instances: core.host.placements.size,
      fallenBack: forecasting.fallenBack(),
      counters: {
        ...intake.counters(),
        ...skipped,
        ...skippedPoints,
        ...core.series.counters(),
        ...forecasting.counters(),
        ...forecaster.counters(),
        ...server.counters(),
        ...events.counters(),
      },
      lastFailure: events.lastFailure(),
    }),
    recommendations: () => recent,
    verdicts: () => core.verdicts(),
    stop: async () => {
      for (const cancel of cancels) cancel();
      await server.stop();
      await losses.stop();
      await events.stop();
      await forecaster.stop();
    },
  };
}
