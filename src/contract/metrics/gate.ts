import { attr } from '../attributes.ts';
import { counter, of } from './spec.ts';

export const gateMetrics = of('gate', {
  'sculptor.gate.records': counter(
    '{record}',
    'self',
    'Points and log records of guests that were delivered.',
  ),
  'sculptor.gate.dropped': counter(
    '{item}',
    'self',
    'Connections, requests, records and events of guests that were not let through, by reason, which begins with what is counted (docs/metrics.md lists them).',
    [attr.reason],
  ),
});

export const intakeMetrics = of('intake', {
  'sculptor.samples.lost': counter(
    '{sample}',
    'self',
    'Samples that the engine or the sculptor (service.name) received and could not use, by reason, such as late or not-finite.',
    [attr.reason],
  ),
});
