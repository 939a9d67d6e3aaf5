import { join } from 'node:path';
import ava from 'ava';
import { startConnectedAgent } from '../../src/agent/connected-agent.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { attr } from '../../src/contract/metrics.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { startSink } from '../agent/gate/support.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { realTime, socketFolder } from '../support/sockets.ts';

const test = needs('root', 'btf', 'addon');
const hasVsock = needs('vsock', 'vsockLoopback') === ava.serial;

const port = 30_000 + (process.pid % 20_000);
const uuids = {
  unix: '11111111-2222-3333-4444-555555555555',
  tcp: '22222222-2222-3333-4444-555555555555',
  vsock: '33333333-2222-3333-4444-555555555555',
};

/** Whole agents: the series of the guests arrive as theirs by the host's, and their events nowhere. */
test('whole agents behind the gate of another: over a unix socket, over TCP, and over vsock where this machine has it', async t => {
  t.timeout(120_000);
  const folder = socketFolder(t);
  const sink = await startSink(t);
  const agentOf = async (hostId: string, config: object) => {
    const agent = await startConnectedAgent({
      config: agentConfigSchema.parse({
        apiSocket: join(folder, `${hostId}.sock`),
        detailIntervalSeconds: 1,
        ...config,
      }),
      native: loadNative(),
      roots: hostRoots,
      hostId,
      clock: realTime,
      say: () => undefined,
    });
    t.teardown(agent.stop);
    return agent;
  };
  const path = join(folder, 'guests.sock');
  const [address, cid, name] = ['127.0.0.1', 1, 'web'];
  const tcpGuests = [{ address, instance: uuids.tcp, name }];
  const vsock = { port, guests: [{ cid, instance: uuids.vsock, name }] };
  const host = await agentOf('the-host', {
    endpoint: sink.endpoint,
    gate: {
      unix: [{ path, instance: uuids.unix, name }],
      tcp: { host: address, port, guests: tcpGuests },
      ...(hasVsock ? { vsock } : {}),
    },
  });
  const endpoints = {
    unix: `unix://${path}`,
    tcp: `http://${address}:${port}`,
    ...(hasVsock ? { vsock: `vsock://${cid}:${port}` } : {}),
  };
  const guests = Object.entries(endpoints).map(async ([way, endpoint]) => ({
    way,
    uuid: uuids[way as keyof typeof uuids],
    agent: await agentOf(`guest-${way}`, { endpoint }),
  }));

  for (const { way, uuid, agent } of await Promise.all(guests)) {
    const ofGuest = () =>
      sink.resources.filter(
        ({ resource }) => attr.origin in resource && resource[attr.instanceId] === uuid,
      );
    await eventually(`series of the guest: ${way}`, 40, () =>
      ofGuest().length > 20 ? true : null,
    );
    const resources = ofGuest().map(({ resource }) => resource);
    for (const resource of resources)
      t.like(resource, {
        'host.id': 'the-host',
        'sculptor.instance.id': uuid,
        'sculptor.instance.kind': 'vm',
        'sculptor.instance.name': 'web',
        'sculptor.guest.host.id': `guest-${way}`,
      });
    const inner = new Set(resources.map(resource => resource[attr.guestInstanceId]));
    const unique = new Set(resources.map(resource => resource['service.instance.id']));
    t.true(inner.size >= 2 && unique.size === inner.size, `${inner.size} instances of the guest`);
    t.true(
      ofGuest().some(({ points }) => points.some(({ metric }) => metric === 'container.cpu.time')),
    );

    await eventually('events that were kept out', 20, () => agent.status().exports.lastFailure);
    const { exports, gate: none } = agent.status();
    t.true(exports.delivered > 0);
    t.is(exports.lost['failed'], 0);
    t.regex(exports.lastFailure ?? '', /events sculptor\.\*, which are not taken from a guest/);
    t.is(none, null);
  }
  t.true((host.status().gate?.dropped.event_forbidden ?? 0) > 0);
  const told = new Set(sink.records.map(({ resource }) => resource[attr.hostId]));
  t.deepEqual([...told], ['the-host'], 'only the host tells of topology and placements');
  t.true(sink.records.every(({ resource }) => !(attr.origin in resource)));
  const origins = new Set(sink.resources.map(({ resource }) => resource[attr.guestHostId]));
  t.is(origins.size, guests.length + 1, 'of the host, and of each guest');

  const ownSeries = (name: string) =>
    sink.resources.some(
      ({ resource, points }) =>
        !(attr.origin in resource) && points.some(({ metric }) => metric === name),
    );
  await eventually('what the gate says of itself', 20, () =>
    ownSeries('sculptor.gate.records') && ownSeries('sculptor.gate.dropped') ? true : null,
  );
});
