import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ava, { type ExecutionContext } from 'ava';
import { withGuest } from '../lab/guest/guest.ts';
import { needsLab } from '../lab/needs-lab.ts';
import { makeCgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { startTold } from '../support/told-agent.ts';

const onThisMachine = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
const test = onThisMachine === ava.serial ? needsLab() : onThisMachine;

const [blocks, kb] = [300, 16];

/** A disk image of which every block is there already, so that the guest's writes are all that is written. */
function makeImage(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-image-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(`${folder}/disk`, Buffer.alloc(16 << 20, 1), { flush: true });
  return `${folder}/disk`;
}

test('what a guest writes to its drive is told by QEMU to the byte, and by the disk under it', async t => {
  t.timeout(150_000);
  const image = makeImage(t);
  const box = makeCgroupBox('/sys/fs/cgroup/cpu');
  t.teardown(box.end);
  const told = await startTold();
  t.teardown(told.stop);
  const drive = `file=${image},format=raw,if=none,id=data,cache=none`;
  const qemu = ['-drive', drive, '-device', 'virtio-blk-pci,drive=data'];
  const modules = ['virtio_pci', 'virtio_blk'];
  const workload = `writing,${blocks},${kb}`;
  const cgroups = [box.folder];
  await withGuest({ name: 'writer', workload, modules, qemu, cgroups }, async guest => {
    await guest.console.waitFor(/^WROTE/, 60);
    const last = (metric: string, ...wanted: string[]) =>
      told
        .pointsOf(metric, guest.uuid)
        .filter(({ attributes }) =>
          wanted.every(value => Object.values(attributes).includes(value)),
        )
        .at(-1)?.value;
    const bytes = blocks * kb * 1024;
    await eventually('all of its writes', 20, () =>
      last('sculptor.vdisk.io', 'data', 'write') === bytes ? true : null,
    );
    t.is(last('sculptor.vdisk.operations', 'data', 'write'), blocks);
    t.true(Number(last('sculptor.vdisk.operations', 'data', 'flush')) >= 1);
    const seconds = Number(last('sculptor.vdisk.time', 'data', 'write'));
    t.true(seconds > 0 && seconds < 60, `${seconds} s for ${blocks} writes`);
    t.is(told.agent.status().sources['vdisks'], 'running');
    // Of an image on a disk: past the host's page cache, so the same bytes again, by the VM's cgroup.
    if (onDisk(image)) {
      const written = await eventually('its writes on the disk', 20, () => {
        const value = Number(last('container.disk.io', 'write'));
        return value >= bytes ? value : null;
      });
      // The flush may write the file's own time as well.
      t.true(written <= bytes + 65_536, `${written} for ${bytes}`);
      const latency = last('sculptor.disk.latency', 'device', 'write');
      t.true(typeof latency === 'object' && latency.count >= blocks);
    } else t.log('the image is on no block device: nothing is written under it');
  });
});

/** File systems without a device of their own have an anonymous one, of major 0. */
const onDisk = (path: string): boolean => statSync(path).dev >> 8 !== 0;
