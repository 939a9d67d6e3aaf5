import { randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import ava from 'ava';
import type { MetricPoint } from '../../src/contract/telemetry.ts';
import { withGuest } from '../lab/guest/guest.ts';
import { needsLab } from '../lab/needs-lab.ts';
import { makeCgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { coresOf, startTold } from '../support/told-agent.ts';

const onThisMachine = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
const test = onThisMachine === ava.serial ? needsLab() : onThisMachine;

/** Cores that a vCPU ran or waited for, over its last two points. */
function demand(told: Awaited<ReturnType<typeof startTold>>, vm: string, index: number): number {
  const lastTwo = (metric: string): MetricPoint[] =>
    told
      .pointsOf(metric, vm)
      .filter(point => point.attributes['sculptor.vcpu.index'] === index)
      .slice(-2);
  return (
    coresOf(lastTwo('sculptor.task.cpu.time'), 0) +
    coresOf(lastTwo('sculptor.task.runqueue.wait'), 0)
  );
}

test('the vCPUs of a VM are placed by index and have series of their own, busy or idle', async t => {
  t.timeout(150_000);
  const box = makeCgroupBox('/sys/fs/cgroup/cpu');
  const told = await startTold();
  try {
    await withGuest({ name: 'busy', workload: 'busy', cgroups: [box.folder] }, async guest => {
      const { uuid, tgid } = guest;
      t.log(`the guest had begun after ${guest.bootSeconds.toFixed(1)} s`);
      const placement = await eventually('a placement with both vCPUs', 20, () =>
        told
          .placementsOf(uuid)
          .find(each => each.tasks.filter(task => task.vcpu !== undefined).length === 2),
      );
      t.deepEqual(placement.instance, { id: uuid, kind: 'vm', name: 'busy' });
      const vcpus = placement.tasks.filter(task => task.vcpu !== undefined);
      t.deepEqual(
        vcpus.map(task => [task.name, task.vcpu, task.tgid]),
        [
          ['CPU 0/TCG', 0, tgid],
          ['CPU 1/TCG', 1, tgid],
        ],
      );
      const since = told.pointsOf('sculptor.task.cpu.time', uuid).length;
      await eventually('six more seconds of series', 20, () =>
        told.pointsOf('sculptor.task.cpu.time', uuid).length >= since + 12 ? true : null,
      );
      const [most, least] = [demand(told, uuid, 0), demand(told, uuid, 1)].sort((a, b) => b - a);
      t.log(`cores of its vCPUs: ${most?.toFixed(2)} and ${least?.toFixed(2)}`);
      // One spins on one of them; the guest's scheduler may move it meanwhile.
      t.true(Math.abs(Number(most) + Number(least) - 1) < 0.25);
      t.true(Number(least) < 0.6);
    });
  } finally {
    await told.stop();
    await box.end();
  }
});

test('an idle VM whose QEMU names no threads: its vCPUs are known by QMP, and read about nothing', async t => {
  t.timeout(150_000);
  const box = makeCgroupBox('/sys/fs/cgroup/cpu');
  const told = await startTold();
  try {
    const qemu = ['-name', 'guest=unnamed,debug-threads=off'];
    await withGuest({ name: 'unnamed', qemu, cgroups: [box.folder] }, async ({ uuid }) => {
      const placement = await eventually('a placement with both vCPUs', 20, () =>
        told
          .placementsOf(uuid)
          .find(each => each.tasks.filter(task => task.vcpu !== undefined).length === 2),
      );
      t.true(placement.tasks.every(task => !task.name.startsWith('CPU')));
      const points = () => told.pointsOf('sculptor.task.cpu.time', uuid);
      const since = points().length;
      await eventually('six more seconds of series', 20, () =>
        points().length >= since + 12 ? true : null,
      );
      for (const index of [0, 1]) t.true(demand(told, uuid, index) < 0.25);
    });
  } finally {
    await told.stop();
    await box.end();
  }
});

test('a VM whose QEMU has a UUID for SMBIOS alone is known by that, one without any by its cgroup', async t => {
  t.timeout(200_000);
  const boxes = [0, 1].map(() => makeCgroupBox('/sys/fs/cgroup/cpu'));
  const [first, second] = boxes.map(({ folder }) => folder);
  if (first === undefined || second === undefined) throw new Error('two were made');
  const told = await startTold();
  const whose = (id: string) =>
    eventually(`a placement of ${id} with both vCPUs`, 20, () =>
      told
        .placementsOf(id)
        .find(each => each.tasks.filter(task => task.vcpu !== undefined).length === 2),
    );
  try {
    const uuid = randomUUID();
    const qemu = ['-smbios', `type=1,uuid=${uuid.toUpperCase()}`];
    await withGuest({ name: 'proxmox', uuid: '', qemu, cgroups: [first] }, async () => {
      t.deepEqual((await whose(uuid)).instance, { id: uuid, kind: 'vm', name: 'proxmox' });
      await withGuest({ name: 'by-hand', uuid: '', cgroups: [second] }, async ({ tgid }) => {
        const id = `/${basename(second)}`;
        const { instance, tasks } = await whose(id);
        t.deepEqual(instance, { id, kind: 'vm', name: 'by-hand' });
        t.true(tasks.some(task => task.vcpu === 1 && task.tgid === tgid));
        t.true(told.pointsOf('sculptor.task.cpu.time', id).length > 0);
      });
    });
  } finally {
    await told.stop();
    for (const box of boxes) await box.end();
  }
});
