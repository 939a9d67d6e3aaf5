import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ava, { type ExecutionContext } from 'ava';
import { askQmp } from '../../src/linux/qmp.ts';
import { needsLab } from '../lab/needs-lab.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { makeMacvtap } from '../support/macvtap.ts';
import { needs } from '../support/needs.ts';
import { endChild, eventually } from '../support/scene.ts';
import { workload } from '../support/sched-scene.ts';
import { makeNamespace } from '../support/talkers.ts';
import { startTold, type Told } from '../support/told-agent.ts';

const onThisMachine = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'namespaces', 'macvtap');
const test = onThisMachine === ava.serial ? needsLab() : onThisMachine;

const cpuRoot = '/sys/fs/cgroup/cpu';
const named = ['-name', 'debug-threads=on'];
const unnamed = ['-name', 'debug-threads=off'];

/** A QEMU of 64 MB whose machine stands still: nothing runs in it. */
const qemu = (uuid: string, ...args: string[]): string[] => [
  ...['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none', '-S'],
  ...['-accel', 'tcg', '-m', '64', '-uuid', uuid, ...args],
];

const none = {
  'sculptor.agent.vcpus.unknown': {
    ...{ no_qemu: 0, no_names_no_qmp: 0, qmp_silent: 0, qmp_foreign: 0 },
  },
  'sculptor.agent.vms.unknown': { shared_cgroup: 0, root_cgroup: 0, taken_uuid: 0 },
  'sculptor.agent.vdisks.unknown': {
    ...{ no_qemu: 0, no_qmp: 0, qmp_silent: 0, libvirt_silent: 0, libvirt_unknown: 0 },
  },
  'sculptor.agent.interfaces.unknown': {
    ...{ descriptors_refused: 0, devices_refused: 0, third_namespace: 0 },
    ...{ vhost_user: 0, vdpa: 0, vfio: 0, user: 0 },
  },
  'sculptor.agent.dirty_rate.unknown': {
    ...{ no_qemu: 0, no_qmp: 0, qmp_silent: 0, qmp_refused: 0, qmp_busy: 0, would_grow: 0 },
  },
};
type Unknown = Record<string, Record<string, number>>;

/** What it tells is `expected`, in all reasons of all these metrics, sooner or later. */
async function tells(t: ExecutionContext, told: Told, what: string, expected: Unknown) {
  const now = (): Unknown =>
    Object.fromEntries(
      Object.entries(expected).map(([metric, reasons]) => {
        const points = told.pointsOf(metric, 'test-host').slice(-Object.keys(reasons).length);
        return [metric, Object.fromEntries(points.map(reasonAndValue))];
      }),
    );
  // What it tells instead is said below.
  await eventually(what, 30, () => {
    const seen = now();
    const isSame = Object.entries(expected).every(([metric, reasons]) =>
      Object.entries(reasons).every(([reason, count]) => seen[metric]?.[reason] === count),
    );
    return isSame ? true : null;
  }).catch(() => undefined);
  t.deepEqual(now(), expected, what);
}

const reasonAndValue = ({ attributes, value }: ReturnType<Told['pointsOf']>[number]) =>
  [String(attributes['sculptor.reason']), Number(value)] as const;

test('VMs that tell nothing are counted by why, those that are in the way of one another too, and none of the others', async t => {
  t.timeout(150_000);
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-unknown-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const boxOf = (): CgroupBox => {
    const box = makeCgroupBox(cpuRoot);
    t.teardown(box.end);
    return box;
  };
  const monitor = (name: string) => ['-qmp', `unix:${folder}/${name},server=on,wait=off`];
  const mute = [...unnamed, '-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n,romfile='];
  boxOf().spawn(...qemu(randomUUID(), ...mute));
  boxOf().spawn(...qemu(randomUUID(), ...unnamed, ...monitor('held')));
  await hold(t, `${folder}/held`);
  const inner = ['unshare', '--pid', '--fork'];
  boxOf().spawn(...inner, ...qemu(randomUUID(), ...unnamed, ...monitor('foreign')));
  // Before its machine is made a monitor refuses all that it is asked but for drives.
  boxOf().spawn(...qemu(randomUUID(), ...unnamed, ...monitor('early'), '--preconfig'));
  const shared = ['-object', 'memory-backend-memfd,id=m,size=64M', '-M', 'memory-backend=m'];
  const namespace = makeNamespace();
  t.teardown(namespace.end);
  const macvtap = makeMacvtap('52:54:00:12:34:58', namespace);
  t.teardown(macvtap.end);
  const net = ['-netdev', 'tap,id=n,fd=9', '-device', 'virtio-net-pci,netdev=n,romfile='];
  const growing = qemu(randomUUID(), ...named, ...monitor('growing'), ...shared, ...net);
  boxOf().spawn('sh', '-c', 'exec 9<>"$0"; exec "$@"', macvtap.device, ...growing);
  const together = boxOf();
  for (let i = 0; i < 2; i += 1) together.spawn(...qemu(randomUUID(), ...named));
  const uuid = randomUUID();
  for (const name of ['one', 'other']) boxOf().spawn(...qemu(uuid, ...named, ...monitor(name)));
  inRoot(t, 'i=0; while [ $i -lt 130 ]; do sleep 1000 & i=$((i+1)); done; wait');
  // One that runs is found behind more processes than are looked at: its firmware, here.
  const running = qemu(randomUUID(), ...named).filter(argument => argument !== '-S');
  inRoot(t, 'exec "$0" "$@"', ...running);
  boxOf().spawn(...qemu(randomUUID(), ...named, ...monitor('measured')));
  const measured = await hold(t, `${folder}/measured`);
  measured.destroy();
  const bounds = { timeoutSeconds: 5, maxBytes: 1 << 20 };
  await askQmp(`${folder}/measured`, 'calc-dirty-rate', bounds, { 'calc-time': 60 });
  const left = boxOf();
  const ending = left.spawn(...qemu(randomUUID(), ...named, ...monitor('ending')));
  left.spawn(workload, 'latency', '--period-us', '10000');
  const told = await startTold({
    placementIntervalSeconds: 1,
    metrics: { include: ['sculptor.memory.dirty_rate'], exclude: [] },
  });
  t.teardown(told.stop);
  const expected = {
    'sculptor.agent.vcpus.unknown': {
      ...{ no_qemu: 0, no_names_no_qmp: 1, qmp_silent: 2, qmp_foreign: 1 },
    },
    'sculptor.agent.vms.unknown': { shared_cgroup: 2, root_cgroup: qemusInRoot(), taken_uuid: 1 },
    'sculptor.agent.vdisks.unknown': {
      ...none['sculptor.agent.vdisks.unknown'],
      ...{ no_qmp: 1, qmp_silent: 1 },
    },
    'sculptor.agent.interfaces.unknown': {
      ...none['sculptor.agent.interfaces.unknown'],
      ...{ third_namespace: 1, user: 1 },
    },
    'sculptor.agent.dirty_rate.unknown': {
      ...none['sculptor.agent.dirty_rate.unknown'],
      ...{ no_qmp: 1, qmp_silent: 1, qmp_refused: 1, qmp_busy: 1, would_grow: 1 },
    },
  };
  await tells(t, told, 'each by its reason', expected);

  await endChild(ending);
  const after = structuredClone(expected);
  for (const metric of ['vcpus', 'vdisks', 'dirty_rate'] as const)
    after[`sculptor.agent.${metric}.unknown`].no_qemu = 1;
  await tells(t, told, 'one has ended, and others run in its cgroup', after);
});

/** A shell's script in the root of the hierarchy, until the test ends. */
function inRoot(t: ExecutionContext, script: string, ...args: string[]): void {
  const child = spawn('sh', ['-c', `echo $$ >${cpuRoot}/cgroup.procs; ${script}`, ...args], {
    stdio: 'ignore',
    detached: true,
  });
  t.teardown(() => process.kill(-(child.pid ?? 0), 'SIGKILL'));
}

/** Ours, and those of whoever else was placed nowhere. */
function qemusInRoot(): number {
  const tgids = readFileSync(`${cpuRoot}/cgroup.procs`, 'utf8').trim().split('\n');
  const programs = tgids.map(tgid => {
    try {
      return readFileSync(`/proc/${tgid}/cmdline`, 'utf8').split('\0')[0] ?? '';
    } catch {
      // It ended between the two.
      return '';
    }
  });
  return programs.filter(program => /(^|\/)qemu-system-/.test(program)).length;
}

/** Is the one client that a monitor has, until the test ends. */
async function hold(t: ExecutionContext, path: string): Promise<Socket> {
  const socket = await eventually('a monitor', 10, async () => {
    const trial = connect(path);
    const isThere = await Promise.race([
      once(trial, 'connect').then(() => true),
      once(trial, 'error').then(() => false),
    ]).catch(() => false);
    return isThere ? trial : null;
  });
  t.teardown(() => void socket.destroy());
  return socket;
}
