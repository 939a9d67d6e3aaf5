import test from 'ava';
import { createToldResources } from '../../../src/agent/instances/told-resources.ts';
import { temporalityFrom } from '../../../src/otlp/temporality.ts';

test('details of which there are more than a collector takes in a request are told in several', t => {
  const { host } = createToldResources({
    identity: { hostId: 'h', hostName: 'host' },
    temporal: temporalityFrom(undefined),
    resolution: () => 'explicit',
  });
  const samples = Array.from({ length: 60_000 }, (_, i) => ({
    metric: 'sculptor.task.cpu.time' as const,
    attributes: { 'thread.id': i, 'thread.name': 'worker' },
    start: 1,
    value: 1,
  }));
  const sizes = Array.from(host.detail(samples, 2), ({ byteLength }) => byteLength);
  t.true(sizes.length > 1 && Math.max(...sizes) < 4_194_304, `${sizes}`);
});
