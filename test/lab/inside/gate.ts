/**
 * Runs in the lab, as the host: a guest under KVM with the real agent in its own kernel, which exports to the gate of the
 * host's agent over vsock and over a network, and a process in it that forges. Prints what arrived, one JSON object.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { createServer } from 'node:net';
import { pipeline } from 'node:stream';
import * as z from 'zod';
import { requestApi } from '../../../src/api/client.ts';
import { eventually } from '../../support/scene.ts';
import type { Answers } from './forge.ts';
import { startHostAgent } from './host-agent.ts';
import { type WholeGuest, type WholeGuestOptions, withWholeGuest } from './whole-guest.ts';

export type GateOutcome = {
  readonly guestUptimeSeconds: number;
  /** By way (`vsock://…`, `http://…`): what the forger was answered. */
  readonly forged: Readonly<Record<string, Answers>>;
  /** Resources that left the host's agent: of the guest (once each), and of the host itself. */
  readonly ofGuest: Record<string, unknown>[];
  readonly ofHost: Record<string, unknown>[];
  /** Names of metrics that came from the guest's own agent. */
  readonly guestMetrics: string[];
  /** Its round-trip times, as last told. */
  readonly rtts: readonly GuestRtt[];
  /** Series of the guest's VM by the host's own agent: seconds by metric and index of the vCPU, as last told. */
  readonly vcpus: Record<string, Record<string, number>>;
  /** Names of all events that left the host's agent, with the host.id of their resource. */
  readonly events: { name: string; hostId: unknown }[];
  /** The gate's own account. */
  readonly gate: unknown;
  /** Of the guest's starts before: see `WholeGuest`. */
  readonly tripleFaults: readonly string[];
};

/** `sculptor.network.rtt` of one instance of the guest's, by one of its agents. */
export type GuestRtt = {
  readonly instance: string;
  /** The host.id that the agent has in the guest. */
  readonly teller: string;
  readonly count: number;
  readonly meanSeconds: number;
};

/** What the host's side of the network holds back each frame to the guest. */
const delayMs = 100;
const uuid = '5c0bdd5e-1f6f-4f2f-9d0b-3d1f3c7b4a11';
const folder = mkdtempSync('/tmp/gate-');
makeNetwork();
const host = await startHostAgent(folder, {
  vsock: { port: 4317 },
  tcp: { host: '10.99.0.1', port: 4318, guests: [{ address: '10.99.0.2', instance: uuid }] },
});
const { resources, records } = host;
// A guest that is killed closes nothing.
createServer(socket => {
  pipeline(socket.unref(), socket, () => undefined);
})
  .listen(4319, '10.99.0.1')
  .unref();
const options: WholeGuestOptions = {
  folder,
  uuid,
  script: 'test/lab/inside/guest.sh',
  devices: [
    ...['-netdev', 'tap,id=net,ifname=tap0,script=no,downscript=no'],
    ...['-device', 'virtio-net-pci,netdev=net'],
  ],
};
try {
  console.log(JSON.stringify(await withWholeGuest(options, outcomeOf)));
} finally {
  await host.stop();
}

async function outcomeOf({ screen, tripleFaults }: WholeGuest): Promise<GateOutcome> {
  const ways = ['vsock://2:4317', 'http://10.99.0.1:4318'];
  const forged: Record<string, Answers> = {};
  for (const way of ways) {
    const [, answer = ''] = await screen.waitFor(new RegExp(`^FORGED ${way} (.*)`), 480);
    forged[way] = JSON.parse(answer) as Answers;
  }
  await eventually('the instance of the guest, told by both of its agents', 480, () => {
    const tellers = resources
      .filter(({ resource }) => resource['sculptor.guest.instance.id'] === '/tenant')
      .map(({ resource }) => resource['sculptor.guest.host.id']);
    return new Set(tellers).size === ways.length ? true : null;
  });
  await eventually('what the guest says of its vCPUs, told by the host', 120, () =>
    Object.values(ofVcpus()['sculptor.vcpu.guest.runqueue.wait'] ?? {}).some(s => s > 0)
      ? true
      : null,
  );
  await eventually('round-trip times of that instance, by both', 120, () =>
    rttsOf().filter(({ instance, count }) => instance === '/tenant' && count >= 5).length ===
    ways.length
      ? true
      : null,
  );
  const gate = await askGate();
  const [, up] = await screen.waitFor(/^GUEST tick (\S+)/, 60);
  const ofGuest = resources.filter(({ resource }) => 'sculptor.origin' in resource);
  return {
    guestUptimeSeconds: Number(up),
    forged,
    ofGuest: distinct(ofGuest.map(({ resource }) => resource)),
    ofHost: distinct(
      resources
        .filter(({ resource }) => !('sculptor.origin' in resource))
        .map(({ resource }) => resource),
    ),
    guestMetrics: [...new Set(ofGuest.flatMap(({ points }) => points.map(({ metric }) => metric)))],
    rtts: rttsOf(),
    vcpus: ofVcpus(),
    events: distinct(
      records.map(({ eventName, resource }) => ({ name: eventName, hostId: resource['host.id'] })),
    ),
    gate,
    tripleFaults,
  };
}

function rttsOf(): GuestRtt[] {
  const last = new Map<string, GuestRtt>();
  for (const { resource, points } of resources) {
    if (!('sculptor.origin' in resource)) continue;
    const [instance, teller] = ['instance.id', 'host.id'].map(name =>
      String(resource[`sculptor.guest.${name}`]),
    );
    for (const { metric, value } of points) {
      if (metric !== 'sculptor.network.rtt' || typeof value === 'number' || !value.count) continue;
      const { count, sum } = value;
      last.set(`${teller} ${instance}`, {
        instance: instance ?? '',
        teller: teller ?? '',
        count,
        meanSeconds: sum / count,
      });
    }
  }
  return [...last.values()];
}

function ofVcpus(): GateOutcome['vcpus'] {
  const told: Record<string, Record<string, number>> = {};
  for (const { resource, points } of resources) {
    if ('sculptor.origin' in resource || resource['sculptor.instance.id'] !== uuid) continue;
    for (const { metric, attributes, value } of points) {
      const index = attributes['sculptor.vcpu.index'];
      if (typeof index !== 'number' || typeof value !== 'number') continue;
      told[metric] = { ...told[metric], [index]: value };
    }
  }
  return told;
}

/** vsock, KVM, and a network of two, whose way to the guest is a long one: the host is 10.99.0.1, the guest 10.99.0.2. */
function makeNetwork(): void {
  execFileSync('modprobe', ['-a', 'kvm_amd', 'vhost_vsock', 'tun', 'sch_netem']);
  for (const args of [
    'tuntap add tap0 mode tap',
    'address add 10.99.0.1/24 dev tap0',
    'link set tap0 up',
  ])
    execFileSync('ip', args.split(' '));
  execFileSync('tc', `qdisc add dev tap0 root netem delay ${delayMs}ms`.split(' '));
}

async function askGate(): Promise<unknown> {
  const schema = z.object({ gate: z.unknown() });
  return (await requestApi(host.apiSocket, 'GET', '/status', { schema })).gate;
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Map(values.map(value => [JSON.stringify(value), value])).values()];
}
