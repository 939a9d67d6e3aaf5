import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import ava, { type ExecutionContext } from 'ava';
import { askQmp } from '../../src/linux/qmp.ts';
import { type Guest, type GuestOptions, withGuest } from '../lab/guest/guest.ts';
import { needsLab } from '../lab/needs-lab.ts';
import { makeCgroupBox } from '../support/cgroup-box.ts';
import { makeMacvtap } from '../support/macvtap.ts';
import { beside, needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { shareTold } from '../support/told-agent.ts';

const onThisMachine = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'namespaces');
const test = beside(onThisMachine === ava.serial ? needsLab() : onThisMachine);

const shared = shareTold();
ava.after.always(shared.stop);

const mac = '52:54:00:12:34:56';

/** A tap of the test's own with a neighbour on it; `end` removes it. */
function makeTap() {
  const name = `sculpt${process.pid % 1_000_000}`;
  const ip = (...args: string[]): void => void execFileSync('ip', args);
  ip('tuntap', 'add', 'dev', name, 'mode', 'tap');
  try {
    // Nobody speaks on it unasked: no IPv6.
    ip('link', 'set', name, 'addrgenmode', 'none');
    ip('addr', 'add', '10.98.0.1/24', 'dev', name);
    ip('link', 'set', name, 'up');
    ip('neigh', 'add', '10.98.0.2', 'lladdr', mac, 'dev', name);
  } catch (error) {
    ip('link', 'del', name);
    throw error;
  }
  return {
    name,
    set: (...how: string[]) => ip('link', 'set', name, ...how),
    end: () => ip('link', 'del', name),
  };
}

/** Datagrams to the neighbour, a few at a time: an emulated guest is slow. */
async function sendDatagrams(address: string, count: number, bytes: number): Promise<void> {
  const socket = createSocket('udp4');
  for (let sent = 0; sent < count; sent += 1) {
    await new Promise(resolve => socket.send(Buffer.alloc(bytes), 9, address, resolve));
    if (sent % 10 === 9) await new Promise(resolve => setTimeout(resolve, 20));
  }
  socket.close();
}

/** The last value of a series of a guest's interface. */
type Last = (metric: string, direction: string) => number | null;

/** Asks a guest on an interface for 200 echoes, and holds what is told of it against them; `then`: what else is asked of it. */
async function tellsEcho(
  t: ExecutionContext,
  network: { name: string; address: string; backend: string } & Pick<GuestOptions, 'descriptors'>,
  then?: (guest: Guest, last: Last) => Promise<void>,
): Promise<void> {
  const { name, address, backend, descriptors = {} } = network;
  const box = makeCgroupBox('/sys/fs/cgroup/cpu');
  t.teardown(box.end);
  const told = await shared.told();
  const guest = {
    name: 'echo',
    workload: 'echo',
    modules: ['virtio_pci', 'virtio_net'],
    cpus: 1,
    cgroups: [box.folder],
    descriptors,
    qemu: ['-netdev', backend, '-device', `virtio-net-pci,netdev=n0,mac=${mac},romfile=`],
  };
  await withGuest(guest, async started => {
    const last: Last = (metric, direction) => {
      const point = told
        .pointsOf(metric, started.uuid)
        .filter(({ attributes }) => attributes['network.io.direction'] === direction)
        .findLast(({ attributes }) => attributes['network.interface.name'] === name);
      return point === undefined ? null : Number(point.value);
    };
    await eventually('its interface', 20, () => last('container.network.io', 'transmit'));
    const before = {
      receive: Number(last('container.network.io', 'receive')),
      transmit: Number(last('container.network.io', 'transmit')),
    };
    t.deepEqual(before, { receive: 0, transmit: 0 });
    const { instance } = await eventually(
      'its placement',
      20,
      () => told.placementsOf(started.uuid)[0],
    );
    t.deepEqual(instance, { id: started.uuid, kind: 'vm', name: guest.name });
    await sendDatagrams(address, 200, 1000);
    await eventually('200 frames, and their echo', 20, () =>
      last('sculptor.network.interface.packets', 'transmit') === 200 ? true : null,
    );
    // Headers of Ethernet, IP and UDP: 42 bytes.
    t.is(last('container.network.io', 'receive'), 200 * 1042);
    t.is(last('container.network.io', 'transmit'), 200 * 1042);
    t.is(last('sculptor.network.interface.packets', 'receive'), 200);
    for (const direction of ['receive', 'transmit'])
      t.is(last('sculptor.network.interface.dropped', direction), 0);
    await then?.(started, last);
  });
  t.is(told.agent.status().sources['taps'], 'running');
}

test('what a guest receives and sends through its tap is told frame by frame, as the guest sees it', async t => {
  t.timeout(150_000);
  const tap = makeTap();
  t.teardown(tap.end);
  const backend = `tap,id=n0,ifname=${tap.name},script=no,downscript=no`;
  const address = '10.98.0.2';
  await tellsEcho(t, { name: tap.name, address, backend }, async ({ qmpSocket }, last) => {
    const ask = (command: string) =>
      askQmp(qmpSocket, command, { timeoutSeconds: 5, maxBytes: 1 << 20 });
    // A guest that is stopped takes none, and there is room for ten: QEMU may have taken one more.
    await ask('stop');
    tap.set('txqueuelen', '10');
    await sendDatagrams(address, 100, 1000);
    const dropped = await eventually('what found no room', 20, () => {
      const count = last('sculptor.network.interface.dropped', 'receive');
      return count !== null && count >= 89 ? count : null;
    });
    t.true(dropped <= 90, `${dropped} of 100`);
    // It echoes the others on an interface that is down.
    tap.set('down');
    await ask('cont');
    await eventually('their echo', 20, () =>
      last('sculptor.network.interface.dropped', 'transmit') === 100 - dropped ? true : null,
    );
    t.is(last('sculptor.network.interface.packets', 'receive'), 300 - dropped);
    t.is(last('sculptor.network.interface.packets', 'transmit'), 200);
  });
});

const hasMacvtap = needs('macvtap') === ava.serial;

(hasMacvtap ? test : ava.skip)(
  'and so is what goes through a macvtap that it was handed open',
  async t => {
    t.timeout(150_000);
    const { name, device, end } = makeMacvtap(mac);
    t.teardown(end);
    const descriptors = { 9: device };
    await tellsEcho(t, { name, address: '10.97.0.2', backend: 'tap,id=n0,fd=9', descriptors });
  },
);
