import type { Clock, Running } from '../../contract/ports.ts';
import { createMetricsExporter } from '../../otlp/metrics-exporter.ts';
import { createOutbox } from '../../otlp/outbox.ts';
import { ownTemporality } from '../../otlp/temporality.ts';
import { createToldResources } from '../instances/told-resources.ts';
import type { Identity } from '../resources.ts';
import type { Gate } from './gate.ts';

/** Tells what the gate says of itself, every `intervalSeconds()`, beside what the agent says. An export that fails is made up for by the next. */
export function startTelling(options: {
  readonly gate: Pick<Gate, 'samples'>;
  readonly endpoint: string;
  readonly host: Identity;
  readonly intervalSeconds: () => number;
  readonly clock: Clock;
}): Running {
  const { gate, clock, host } = options;
  const temporal = ownTemporality();
  const outbox = createOutbox(createMetricsExporter({ endpoint: options.endpoint }), temporal);
  const start = clock.unixSeconds();
  const told = createToldResources({ identity: host, temporal, resolution: () => 'explicit' });
  const tell = (): void => {
    outbox.send(() => told.host.detail(gate.samples(start), clock.unixSeconds()));
    cancel = clock.after(options.intervalSeconds(), tell);
  };
  let cancel = clock.after(options.intervalSeconds(), tell);
  return {
    stop: async () => {
      cancel();
      await outbox.stop();
    },
  };
}
