import type { ExportResult, MetricsExporter } from './metrics-exporter.ts';
import type { Batch, Temporal } from './temporality.ts';

export type Outbox = {
  /**
   * Has the resources written and sends them; false, and they are not made, when an export is under way still. So a delta is
   * taken only of what is really sent. Null: there is nothing to send. Made one by one, each is garbage when the next one is.
   * `misses`: something goes untold when nothing is sent now; where it is not known whether anything would be made, it is said.
   */
  readonly send: (make: () => Iterable<Uint8Array> | null, misses?: boolean) => boolean;
  readonly delivered: () => number;
  /** Whether the last export was taken, be it but for what a partial success rejected for good. */
  readonly hasArrived: () => boolean;
  readonly lost: () => Readonly<Record<'busy' | 'failed' | 'too_large', number>>;
  readonly lastFailure: () => string | null;
  readonly stop: () => Promise<void>;
};

/** One export under way at most: a slow collector never holds up the reading. What is skipped is counted; totals heal. */
export function createOutbox(exporter: MetricsExporter, temporal: Temporal): Outbox {
  const lost = { busy: 0, failed: 0, too_large: 0 };
  let delivered = 0;
  let hasArrived = true;
  let lastFailure: string | null = null;
  let underWay: Promise<void> | null = null;

  /** The resources as they are; `batches` gets what was shaped for each. */
  function* noted(resources: Iterable<Uint8Array>, batches: Batch[]): Iterable<Uint8Array> {
    for (const resource of resources) {
      batches.push(temporal.take());
      yield resource;
    }
  }

  const settle = async (sent: Promise<ExportResult>, batches: readonly Batch[]): Promise<void> => {
    const result = await sent;
    const untaken = new Set(result.ok ? [] : result.untaken);
    for (const [i, batch] of batches.entries()) if (!untaken.has(i)) temporal.deliver(batch);
    hasArrived = untaken.size === 0;
    lastFailure = result.ok ? null : result.reason;
    if (result.ok) delivered += 1;
    else lost[result.why] += 1;
    underWay = null;
  };

  return {
    send: (make, misses = true) => {
      if (underWay) {
        if (misses) lost.busy += 1;
        return false;
      }
      // Of an export that could not be made.
      temporal.take();
      const resources = make();
      const batches: Batch[] = [];
      if (resources) underWay = settle(exporter.export(noted(resources, batches)), batches);
      return true;
    },
    delivered: () => delivered,
    hasArrived: () => hasArrived,
    lost: () => ({ ...lost }),
    lastFailure: () => lastFailure,
    stop: async () => {
      // It gives what is under way a bounded time.
      await exporter.stop();
      await underWay;
    },
  };
}
