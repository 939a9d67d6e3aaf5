import type { MetricSpec } from '../../src/contract/metrics/spec.ts';
import { attr, metrics } from '../../src/contract/metrics.ts';

/** Units that have a word in Prometheus; those in braces have none. */
const words: Readonly<Record<string, string>> = {
  s: 'seconds',
  By: 'bytes',
  'By/s': 'bytes_per_second',
  '1': 'ratio',
};

/** What each metric of the contract is called there; of a histogram the series that it becomes. */
export const namesInPrometheus: ReadonlyMap<string, string> = new Map(
  Object.entries<MetricSpec>(metrics).flatMap(([name, spec]) =>
    translated(name, spec).map(theirs => [theirs, name] as const),
  ),
);

/** What each attribute of the contract is called there, and the labels that Prometheus or its exporter make. */
export const labelsInPrometheus: ReadonlySet<string> = new Set([
  ...Object.values(attr).map(plain),
  ...['job', 'instance', 'le', '__name__'],
]);

/** @see https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus */
function translated(name: string, { unit, type }: MetricSpec): string[] {
  const word = words[unit];
  const base = word === undefined ? plain(name) : `${plain(name)}_${word}`;
  if (type === 'gauge') return [base];
  if (type === 'counter') return [`${base}_total`];
  return ['bucket', 'count', 'sum'].map(part => `${base}_${part}`);
}

function plain(name: string): string {
  return name.replaceAll('.', '_');
}
