import { readFileSync } from 'node:fs';
import test from 'ava';
import type { MetricSpec } from '../../src/contract/metrics/spec.ts';
import { attr, metrics } from '../../src/contract/metrics.ts';
import { labelsInPrometheus, namesInPrometheus } from '../support/prometheus-names.ts';
import { metricsIn, namesIn, queries } from '../support/queries-page.ts';

test('every name in docs/queries.md is of the contract, as Prometheus has it', t => {
  t.true(queries.length > 20);
  for (const query of queries)
    for (const name of namesIn(query))
      t.true(namesInPrometheus.has(name) || labelsInPrometheus.has(name), `${name}: ${query.text}`);
});

test('every query asks for something', t => {
  for (const query of queries)
    t.true(metricsIn(query).length > 0 || query.text.includes('__name__'), query.text);
});

test('no two metrics, nor two attributes, become one in Prometheus', t => {
  const parts = Object.values<MetricSpec>(metrics).map(({ type }) =>
    type === 'histogram' ? 3 : 1,
  );
  t.is(
    namesInPrometheus.size,
    parts.reduce((sum, n) => sum + n, 0),
  );
  const labels = new Set(Object.values(attr));
  t.is(labelsInPrometheus.size, labels.size + 4);
});

test('the page is where a reader looks', t => {
  for (const page of ['README.md', 'docs/metrics.md'])
    t.regex(readFileSync(new URL(`../../${page}`, import.meta.url), 'utf8'), /queries\.md/, page);
});
