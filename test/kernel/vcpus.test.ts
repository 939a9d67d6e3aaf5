import { randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import ava, { type ExecutionContext } from 'ava';
import { attr } from '../../src/contract/metrics.ts';
import type { MetricPoint } from '../../src/contract/telemetry.ts';
import { withGuests } from '../lab/guest/guest.ts';
import { needsLab } from '../lab/needs-lab.ts';
import { makeCgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { coresOf, shareTold, type Told } from '../support/told-agent.ts';

const onThisMachine = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
const test = onThisMachine === ava.serial ? needsLab() : onThisMachine;

const shared = shareTold();
ava.after.always(shared.stop);

/** The agent, and a cgroup for each of so many VMs. */
async function stage(t: ExecutionContext, vms: number): Promise<{ told: Told; cgroups: string[] }> {
  const boxes = Array.from({ length: vms }, () => makeCgroupBox('/sys/fs/cgroup/cpu'));
  for (const box of boxes) t.teardown(box.end);
  const told = await shared.told();
  return { told, cgroups: boxes.map(({ folder }) => folder) };
}

const isVcpu = ({ vcpu }: { vcpu?: number | undefined }): boolean => vcpu !== undefined;

/** The first placement of an instance that has both vCPUs. */
const placed = (told: Told, id: string) =>
  eventually(`a placement of ${id} with both vCPUs`, 20, () =>
    told.placementsOf(id).find(({ tasks }) => tasks.filter(isVcpu).length === 2),
  );

/** Cores that each of both vCPUs ran or waited for, over the next four seconds. */
async function demands(told: Told, vm: string): Promise<[number, number]> {
  const pointsOf = (metric: string, index: number): MetricPoint[] =>
    told.pointsOf(metric, vm).filter(({ attributes }) => attributes[attr.vcpuIndex] === index);
  const demandOf = async (index: number): Promise<number> => {
    const cores = await Promise.all(
      ['sculptor.task.cpu.time', 'sculptor.task.runqueue.wait'].map(async metric => {
        const since = pointsOf(metric, index).length;
        await eventually('four more seconds of series', 20, () =>
          pointsOf(metric, index).length >= since + 5 ? true : null,
        );
        return coresOf(pointsOf(metric, index), since);
      }),
    );
    return cores.reduce((sum, each) => sum + each, 0);
  };
  return await Promise.all([demandOf(0), demandOf(1)]);
}

test('the vCPUs of VMs are placed by index and have series of their own, busy or idle; where QEMU names no threads, by QMP; a VM whose QEMU has a UUID for SMBIOS alone is known by that, one without any by its cgroup', async t => {
  t.timeout(150_000);
  const { told, cgroups } = await stage(t, 2);
  const [uuid, ofItsCgroup] = [randomUUID(), `/${basename(cgroups[1] ?? '')}`];
  const smbios = ['-smbios', `type=1,uuid=${uuid.toUpperCase()}`];
  const unnamed = ['-name', 'guest=by-hand,debug-threads=off'];
  const guests = [
    { name: 'busy', workload: 'busy', uuid: '', qemu: smbios, cgroups: cgroups.slice(0, 1) },
    { name: 'by-hand', uuid: '', qemu: unnamed, cgroups: cgroups.slice(1) },
  ];
  await withGuests(guests, async ([busy, byHand]) => {
    if (!busy || !byHand) throw new Error('two were asked for');
    const { tgid } = busy;
    t.log(`the guests had begun after ${busy.bootSeconds} and ${byHand.bootSeconds} s`);
    const [placement, ofByHand] = await Promise.all([
      placed(told, uuid),
      placed(told, ofItsCgroup),
    ]);
    t.deepEqual(placement.instance, { id: uuid, kind: 'vm', name: 'busy' });
    t.deepEqual(ofByHand.instance, { id: ofItsCgroup, kind: 'vm', name: 'by-hand' });
    t.deepEqual(
      placement.tasks.filter(isVcpu).map(task => [task.name, task.vcpu, task.tgid]),
      [
        ['CPU 0/TCG', 0, tgid],
        ['CPU 1/TCG', 1, tgid],
      ],
    );
    t.true(ofByHand.tasks.some(task => task.vcpu === 1 && task.tgid === byHand.tgid));
    t.true(ofByHand.tasks.every(task => !task.name.startsWith('CPU')));
    const [ofBusy, idle] = await Promise.all([demands(told, uuid), demands(told, ofItsCgroup)]);
    t.log(`cores of the vCPUs: ${ofBusy.join(' and ')}, of those that idle ${idle.join(' and ')}`);
    // One spins on one of them; the guest's scheduler may move it meanwhile.
    t.true(Math.abs(ofBusy[0] + ofBusy[1] - 1) < 0.25);
    t.true(Math.min(...ofBusy) < 0.6);
    for (const one of idle) t.true(one < 0.25);
  });
});
