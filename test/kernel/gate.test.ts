import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { startConnectedAgent } from '../../src/agent/connected-agent.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { attr } from '../../src/contract/metrics.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { startSink } from '../agent/gate/support.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { realTime, socketFolder } from '../support/sockets.ts';

const uuid = '11111111-2222-3333-4444-555555555555';
const port = 30_000 + (process.pid % 20_000);
const whole = ['root', 'btf', 'addon'] as const;

needs(...whole)('a whole agent behind the gate of another, over a unix socket', async t => {
  const path = join(socketFolder(t), 'guest.sock');
  const gate = { unix: [{ path, instance: uuid, name: 'web' }] };
  await guestBehind(t, gate, `unix://${path}`);
});

needs(...whole)('a whole agent behind the gate of another, over TCP', async t => {
  const guests = [{ address: '127.0.0.1', instance: uuid, name: 'web' }];
  const gate = { tcp: { host: '127.0.0.1', port, guests } };
  await guestBehind(t, gate, `http://127.0.0.1:${port}`);
});

needs(
  ...whole,
  'vsock',
  'vsockLoopback',
)('a whole agent behind the gate of another, over vsock', async t => {
  const gate = { vsock: { port, guests: [{ cid: 1, instance: uuid, name: 'web' }] } };
  await guestBehind(t, gate, `vsock://1:${port}`);
});

/** Two whole agents: the series of one arrive as the guest's by the other, its events nowhere. */
async function guestBehind(t: ExecutionContext, gate: object, endpoint: string): Promise<void> {
  t.timeout(120_000);
  const folder = socketFolder(t);
  const sink = await startSink(t);
  const agentOf = (name: string, hostId: string, config: object) =>
    startConnectedAgent({
      config: agentConfigSchema.parse({ apiSocket: join(folder, `${name}-api.sock`), ...config }),
      native: loadNative(),
      roots: hostRoots,
      hostId,
      clock: realTime,
      say: () => undefined,
    });
  const host = await agentOf('host', 'the-host', {
    endpoint: sink.endpoint,
    gate,
    detailIntervalSeconds: 1,
  });
  const guest = await agentOf('guest', 'the-guest', { endpoint, detailIntervalSeconds: 1 });
  try {
    const ofGuest = () => sink.resources.filter(({ resource }) => attr.origin in resource);
    await eventually('series of the guest', 40, () => (ofGuest().length > 20 ? true : null));
    const resources = ofGuest().map(({ resource }) => resource);
    for (const resource of resources)
      t.like(resource, {
        'host.id': 'the-host',
        'sculptor.instance.id': uuid,
        'sculptor.instance.kind': 'vm',
        'sculptor.instance.name': 'web',
        'sculptor.guest.host.id': 'the-guest',
      });
    const inner = new Set(resources.map(resource => resource[attr.guestInstanceId]));
    const unique = new Set(resources.map(resource => resource['service.instance.id']));
    t.true(inner.size >= 2 && unique.size === inner.size, `${inner.size} instances of the guest`);
    t.true(
      ofGuest().some(({ points }) => points.some(({ metric }) => metric === 'container.cpu.time')),
    );

    await eventually('events that were kept out', 20, () =>
      (host.status().gate?.dropped.event_forbidden ?? 0) > 0 ? true : null,
    );
    const told = new Set(sink.records.map(({ resource }) => resource[attr.hostId]));
    t.deepEqual([...told], ['the-host'], 'only the host tells of topology and placements');
    t.true(sink.records.every(({ resource }) => !(attr.origin in resource)));

    const ownSeries = (name: string) =>
      sink.resources.some(
        ({ resource, points }) =>
          !(attr.origin in resource) && points.some(({ metric }) => metric === name),
      );
    await eventually('what the gate says of itself', 20, () =>
      ownSeries('sculptor.gate.records') && ownSeries('sculptor.gate.dropped') ? true : null,
    );
    const { exports, gate: none } = guest.status();
    t.true(exports.delivered > 0);
    t.is(exports.lost['failed'], 0);
    t.regex(exports.lastFailure ?? '', /events sculptor\.\*, which are not taken from a guest/);
    t.is(none, null);
  } finally {
    await guest.stop();
    await host.stop();
  }
}
