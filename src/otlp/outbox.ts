import type { ExportResult, MetricsExporter } from './metrics-exporter.ts';
import type { Temporal } from './temporality.ts';

export type Outbox = {
  /**
   * Has the resources written and sends them; false, and they are not made, when an export is under way still. So a delta is
   * taken only of what is really sent. Null: there is nothing to send. Made one by one, each is garbage when the next one is.
   * `misses`: something goes untold when nothing is sent now; where it is not known whether anything would be made, it is said.
   */
  readonly send: (make: () => Iterable<Uint8Array> | null, misses?: boolean) => boolean;
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

  const settle = async (sent: Promise<ExportResult>): Promise<void> => {
    const result = await sent;
    temporal.settle(result.ok);
    lastFailure = result.ok ? null : result.reason;
    if (result.ok) delivered += 1;
    else lost.failed += 1;
    underWay = null;
  };

  return {
    send: (make, misses = true) => {
      if (underWay) {
        if (misses) lost.busy += 1;
        return false;
      }
      const resources = make();
      if (resources) underWay = settle(exporter.export(resources));
      return true;
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
