/**
 * Direct and buffered writes of a cgroup to a disk of its own, on the kernel it is started on; prints one JSON object
 * (`BlockLab`). It asserts nothing: the test outside does.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { blockWords, startBlockProbe } from '../../../src/agent/probes/block.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { makeCgroupBox } from '../../support/cgroup-box.ts';
import { deviceOf, makeLoopDisk } from '../../support/loop-disk.ts';

/** Operations and bytes that one cgroup has written. */
type Written = { readonly operations: number; readonly bytes: number };

export type BlockLab = {
  readonly cgroupVersion: number;
  /** 200 writes of 16 KB, past the page cache. */
  readonly direct: Written;
  /** 1 MB through the page cache, that a kernel thread wrote back: of its cgroup, and of all cgroups. */
  readonly writeback: { readonly own: Written; readonly all: Written };
};

const layout = readCgroupLayout(hostRoots);
if (layout.version === 2) writeFileSync(`${layout.cpu}/cgroup.subtree_control`, '+cpu +memory +io');
execFileSync('sh', ['-c', 'modprobe -q loop || true']);
const disk = makeLoopDisk(32, 'mq-deadline');
const box = makeCgroupBox(layout.cpu);
const probe = startBlockProbe({
  native: loadNative(),
  cgroupV1: layout.version === 1,
  maxInstances: 1024,
});
// A kernel thread is to write back what is a second old.
const ages = ['dirty_writeback_centisecs', 'dirty_expire_centisecs'].map(name => {
  const file = `/proc/sys/vm/${name}`;
  return { file, before: readFileSync(file, 'utf8') };
});
try {
  await run('dd', 'if=/dev/zero', `of=${disk.path}`, 'bs=16k', 'count=200', 'oflag=direct');
  const direct = written(box.id);
  for (const { file } of ages) writeFileSync(file, '100');
  const before = { own: written(box.id), all: written() };
  // Held open: the last to close it writes back what is left.
  const held = openSync(disk.path, 'r');
  await run('dd', 'if=/dev/zero', `of=${disk.path}`, 'bs=64k', 'count=16');
  await sleep(10_000);
  const after = { own: written(box.id), all: written() };
  closeSync(held);
  const lab: BlockLab = {
    cgroupVersion: layout.version,
    direct,
    writeback: { own: less(after.own, before.own), all: less(after.all, before.all) },
  };
  console.log(JSON.stringify(lab));
} finally {
  for (const { file, before } of ages) writeFileSync(file, before);
  probe.stop();
  await box.end();
  disk.end();
}

async function run(...command: string[]): Promise<void> {
  const [code] = await once(box.spawn(...command, 'status=none'), 'exit');
  if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}`);
}

/** By one cgroup, or by all. */
function written(cgroupId?: number): Written {
  const ours = probe
    .read()
    .filter(({ key }) => key.device === deviceOf(disk) && key.direction === 'write')
    .filter(({ key }) => cgroupId === undefined || key.cgroupId === cgroupId);
  const sum = (word: number) => ours.reduce((total, { words }) => total + (words[word] ?? 0), 0);
  return { operations: sum(blockWords.operations), bytes: sum(blockWords.bytes) };
}

function less(a: Written, b: Written): Written {
  return { operations: a.operations - b.operations, bytes: a.bytes - b.bytes };
}
