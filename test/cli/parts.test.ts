import test from 'ava';
import { createFrugalContext } from '../../src/cli/parts.ts';
import { configSchema } from '../../src/contract/config.ts';

test('a daemon warns of a temporality in its environment that there is not', t => {
  const said: string[] = [];
  process.env['OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE'] = 'detla';
  createFrugalContext('engine', {
    config: configSchema.parse({}),
    say: (level, text) => said.push(`${level}: ${text}`),
  });
  t.is(said.filter(line => /^warn: OTEL_.*"detla"/.test(line)).length, 1);
});
