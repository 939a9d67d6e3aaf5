/**
 * TCP and UDP of two cgroups, as libbpf and bpftrace tell them on the kernel it is started on; prints one JSON object
 * (`NetworkLab`). It asserts nothing: the test outside does.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { startNetScript } from '../../../src/agent/bpftrace/net-script.ts';
import { runBpftrace } from '../../../src/agent/bpftrace/run.ts';
import type { ScriptContext } from '../../../src/agent/bpftrace/script.ts';
import { startUdpScript } from '../../../src/agent/bpftrace/udp-script.ts';
import { type NetTotals, startNetProbe } from '../../../src/agent/probes/net.ts';
import { startUdpProbe, type UdpTotals } from '../../../src/agent/probes/udp.ts';
import { realClock } from '../../../src/cli/clock.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { makeCgroupBox } from '../../support/cgroup-box.ts';
import { byMany } from '../../support/datagram-loads.ts';
import { talkUdp } from '../../support/datagrams.ts';
import { ended, makeNamespace, send, serve } from '../../support/talkers.ts';

/** By libbpf and by bpftrace. */
type Both<Totals> = readonly (Totals | undefined)[];

export type NetworkLab =
  | { readonly refused: readonly string[] }
  | {
      readonly udp: { readonly from: Both<UdpTotals>; readonly to: Both<UdpTotals> };
      readonly tcp: { readonly client: Both<NetTotals>; readonly server: Both<NetTotals> };
      readonly lost: Readonly<Record<string, number>>;
    };

const cgroupV1 = false;
const context: ScriptContext = {
  ...{ run: runBpftrace, roots: hostRoots, clock: realClock, cgroupV1 },
  say: (_, text) => console.error(text),
};

/** Or why this kernel does not let it be asked. */
function attempt<Probe>(start: (context: ScriptContext) => Probe): Probe | string {
  try {
    return start(context);
  } catch (error) {
    return (error as Error).message;
  }
}

async function compare(): Promise<NetworkLab> {
  const [udp, net] = [attempt(startUdpScript), attempt(startNetScript)];
  if (typeof udp === 'string' || typeof net === 'string') return { refused: [`${udp}`, `${net}`] };
  for (const trouble of await Promise.all([udp.attached, net.attached]))
    if (trouble) throw new Error(trouble);
  const options = { native: loadNative(), cgroupV1, maxInstances: 1024 };
  const [udps, nets] = [
    [startUdpProbe(options), udp],
    [startNetProbe(options), net],
  ];
  const [from, to] = [makeCgroupBox('/sys/fs/cgroup'), makeCgroupBox('/sys/fs/cgroup')];
  const namespace = makeNamespace();
  try {
    await talkUdp({ from, to }, { namespace, address: '127.0.0.1' }, byMany);
    const at = { namespace, host: '127.0.0.1', port: 4000 };
    await Promise.all([serve(to, at, 1000), send(from, at, 1_000_000)].map(ended));
    await pause(5000);
    for (const probe of nets) probe.look();
    return {
      udp: {
        from: udps.map(probe => probe.readTotals().get(from.id)),
        to: udps.map(probe => probe.readTotals().get(to.id)),
      },
      tcp: {
        client: nets.map(probe => probe.readTotals().get(from.id)),
        server: nets.map(probe => probe.readTotals().get(to.id)),
      },
      lost: { ...udp.lost(), ...net.lost(), owner: 0 },
    };
  } finally {
    for (const probe of [...udps, ...nets]) await probe.stop();
    await from.end();
    await to.end();
    namespace.end();
  }
}

console.log(JSON.stringify(await compare()));
