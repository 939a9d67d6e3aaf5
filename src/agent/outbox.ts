import type { ResourceMetrics } from '@opentelemetry/sdk-metrics';
import type { MetricsExporter } from '../otlp/metrics-exporter.ts';
import type { Temporal } from './temporality.ts';

export type Outbox = {
  readonly send: (resources: ResourceMetrics[]) => void;
  readonly delivered: () => number;
  readonly lost: () => Readonly<Record<'busy' | 'failed', number>>;
  readonly lastFailure: () => string | null;
  readonly stop: () => Promise<void>;
};

/** One export under way at most: a slow collector never holds up the reading. What is skipped is counted; totals heal. */
export function createOutbox(exporter: MetricsExporter, temporal: Temporal): Outbox {
  const lost = { busy: 0, failed: 0 };
  let delivered = 0;
  let lastFailure: string | null = null;
  let underWay: Promise<void> | null = null;

  const deliver = async (resources: ResourceMetrics[]): Promise<void> => {
    const result = await exporter.export(resources);
    temporal.settle(result.ok);
    lastFailure = result.ok ? null : result.reason;
    if (result.ok) delivered += 1;
    else lost.failed += 1;
    underWay = null;
  };

  return {
    send: resources => {
      if (resources.length === 0) return;
      if (underWay) {
        lost.busy += 1;
        return;
      }
      underWay = deliver(resources);
    },
    delivered: () => delivered,
    lost: () => ({ ...lost }),
    lastFailure: () => lastFailure,
    stop: async () => {
      await underWay;
      await exporter.stop();
    },
  };
}
