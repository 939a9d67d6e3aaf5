/**
 * Runs inside a guest: says to the gate of its host (`forge.ts vsock://2:PORT` or `http://…`) what only a host, or the engine,
 * may say. Prints what the gate answered, one JSON object.
 */
import { mkdtempSync } from 'node:fs';
import { startVsockUplink } from '../../../src/agent/vsock-uplink.ts';
import { realClock } from '../../../src/cli/clock.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { eventEncoder } from '../../../src/otlp/events-exporter.ts';
import { createExportClient, type SendResult } from '../../../src/otlp/export-client.ts';
import { counter, resourceMetrics, serialize } from '../../otlp/support.ts';

export type Answers = Readonly<Record<'metrics' | 'recommendation' | 'heartbeat', SendResult>>;

const [, , endpoint = ''] = process.argv;
const uplink = endpoint.startsWith('vsock:')
  ? await startVsockUplink({
      endpoint,
      folder: mkdtempSync('/tmp/forge-'),
      native: loadNative(),
      clock: realClock,
      say: (_, message) => console.error(message),
    })
  : null;
const reached = uplink?.endpoint ?? endpoint;
const metrics = createExportClient({ endpoint: reached, signal: 'metrics' });
const logs = createExportClient({ endpoint: reached, signal: 'logs' });
const claims = {
  'service.name': 'forger',
  'service.instance.id': 'lab/victim',
  'host.id': 'lab',
  'sculptor.instance.id': '/victim',
  'sculptor.instance.kind': 'cgroup',
};
const event = (eventName: 'sculptor.recommendation' | 'sculptor.heartbeat') =>
  logs.send(
    eventEncoder('sculptor.engine', claims)(
      { eventName, body: 'believe me', attributes: { 'sculptor.payload': '{}' } },
      Date.now() / 1000,
    ),
  );
const answers: Answers = {
  metrics: await metrics.send(
    serialize(resourceMetrics(claims, [counter('container.cpu.time', 1e6)])),
  ),
  recommendation: await event('sculptor.recommendation'),
  heartbeat: await event('sculptor.heartbeat'),
};
console.log(JSON.stringify(answers));
metrics.close();
logs.close();
await uplink?.stop();
