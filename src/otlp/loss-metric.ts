import { attr } from '../contract/metrics.ts';
import type { Clock, Running } from '../contract/ports.ts';
import { createMetricsExporter } from './metrics-exporter.ts';
import { createOutbox } from './outbox.ts';
import type { Sample, Telling } from './sample.ts';
import { ownTemporality } from './temporality.ts';
import { writeMetrics } from './write-metrics.ts';

/** Samples that could not be used since the start, by reason. */
export type Losses = Readonly<Record<string, number>>;

/** Told like all that is no headline series. */
const intervalSeconds = 10;
/** Reasons that are told as 0 from the beginning, so that a first loss is seen as a change. */
const known: Losses = { late: 0, 'not-finite': 0 };

/**
 * Tells `sculptor.samples.lost` of a part that receives metrics, every 10 s. Nothing is told before the host is known.
 * An export that fails is made up for by the next.
 */
export function startLossMetric(options: {
  readonly endpoint: string;
  /** One of `scopes` of the contract. */
  readonly scope: string;
  /** `service.name` of the part. */
  readonly service: string;
  readonly hostId: () => string | undefined;
  readonly clock: Clock;
  readonly read: () => Losses;
}): Running {
  const { clock, scope, service } = options;
  const temporal = ownTemporality();
  const outbox = createOutbox(createMetricsExporter({ endpoint: options.endpoint }), temporal);
  const start = clock.unixSeconds();

  const tell = (): void => {
    const hostId = options.hostId();
    if (hostId === undefined) return;
    const resource = {
      [attr.serviceName]: service,
      [attr.serviceInstanceId]: `${hostId}/${service}`,
      [attr.hostId]: hostId,
    };
    const samples = Object.entries({ ...known, ...options.read() }).map(
      ([reason, value]): Sample => ({
        metric: 'sculptor.samples.lost',
        attributes: { [attr.reason]: reason },
        start,
        value,
      }),
    );
    const telling: Telling = { scope, resource, temporal, resolution: () => 'explicit' };
    outbox.send(() => [writeMetrics(telling, samples, clock.unixSeconds())]);
  };

  const cancel = clock.every(intervalSeconds, tell);
  return {
    stop: async () => {
      cancel();
      await outbox.stop();
    },
  };
}
