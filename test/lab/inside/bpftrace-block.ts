/**
 * Reads of a disk that fails, is busy, does a part of what it is asked, and takes one at a time, as bpf/block.bt and the libbpf
 * program count them on the kernel it is started on; prints one JSON object (`BpftraceBlockLab`). It asserts nothing: the test
 * outside does.
 */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { startBlockScript } from '../../../src/agent/bpftrace/block-script.ts';
import { runBpftrace } from '../../../src/agent/bpftrace/run.ts';
import { type BlockProbe, blockWords, startBlockProbe } from '../../../src/agent/probes/block.ts';
import { realClock } from '../../../src/cli/clock.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { makeCgroupBox } from '../../support/cgroup-box.ts';
import { loadScsiDisk } from '../../support/scsi-disk.ts';

/** What one of them told of one scene. */
export type ByOne = Readonly<
  Record<
    'requeued' | 'in_parts' | 'failed' | 'operations' | 'bytes' | 'queueNs' | 'deviceNs',
    number
  >
>;
export type BpftraceBlockLab = {
  readonly scenes: Readonly<Record<string, { readonly libbpf: ByOne; readonly bpftrace: ByOne }>>;
  readonly lost: Readonly<Record<string, number>>;
};

writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+cpu +memory +io');
// 68 KB from 2 MB on.
const disk = await loadScsiDisk({ from: 4096, count: 136 });
const [major = 0, minor = 0] = readFileSync(`/sys/block/${disk.name}/dev`, 'utf8')
  .split(':')
  .map(Number);
const box = makeCgroupBox('/sys/fs/cgroup');
const libbpf = startBlockProbe({ native: loadNative(), cgroupV1: false, maxInstances: 1024 });
const bpftrace = startBlockScript({
  run: runBpftrace,
  cgroupV1: false,
  roots: hostRoots,
  clock: realClock,
  say: (_, text) => console.error(text),
});
try {
  const trouble = await bpftrace.attached;
  if (trouble) throw new Error(trouble);
  const scenes: Record<string, { libbpf: ByOne; bpftrace: ByOne }> = {};
  for (const scheduler of ['none', 'mq-deadline']) {
    writeFileSync(`/sys/block/${disk.name}/queue/scheduler`, scheduler);
    // `opts` of scsi_debug: 0x2 unreadable sectors, 0x100 half of it done, 0x8000 busy.
    scenes[`${scheduler}, bad`] = await watch({ opts: 2 }, ['bs=64k skip=30 count=6']);
    scenes[`${scheduler}, busy`] = await watch({ opts: 0x8000, every_nth: 10 }, [
      'bs=16k count=100',
    ]);
    scenes[`${scheduler}, half`] = await watch({ opts: 0x100, every_nth: 10 }, [
      'bs=16k count=100',
    ]);
    const parts = [0, 1, 2, 3].map(nth => `bs=4k skip=${nth * 64} count=50`);
    scenes[`${scheduler}, one at a time`] = await watch({ ndelay: 2_000_000 }, parts);
    scenes[`${scheduler}, the same by four`] = await watch(
      { ndelay: 2_000_000 },
      Array<string>(4).fill('bs=4k count=50'),
    );
  }
  const lab: BpftraceBlockLab = { scenes, lost: { ...bpftrace.stats().lost } };
  console.log(JSON.stringify(lab));
} finally {
  libbpf.stop();
  await bpftrace.stop();
  await box.end();
}

/** What came meanwhile by each of them, when all that was asked for had ended. */
async function watch(settings: Record<string, number>, reads: string[]) {
  disk.set(settings);
  writeFileSync(`/sys/block/${disk.name}/device/queue_depth`, 'ndelay' in settings ? '1' : '32');
  const before = { libbpf: told(libbpf), bpftrace: told(bpftrace) };
  // Of those that fail dd goes on with the next.
  const dd = `dd status=none if=/dev/${disk.name} of=/dev/null iflag=direct conv=noerror`;
  await once(
    box.spawn('sh', '-c', `${reads.map(read => `${dd} ${read} 2>/dev/null &`).join(' ')} wait`),
    'exit',
  );
  disk.set({ opts: 0, every_nth: 0, ndelay: 0, delay: 0 });
  for (let last = -1; last !== told(bpftrace).operations; await pause(4000))
    last = told(bpftrace).operations;
  return {
    libbpf: less(told(libbpf), before.libbpf),
    bpftrace: less(told(bpftrace), before.bpftrace),
  };
}

/** Of all cgroups: who asked for it is not known of what a kernel thread hands to a disk that has no scheduler. */
function told(probe: BlockProbe): ByOne {
  const reads = probe
    .read()
    .filter(({ key }) => key.device === major * 2 ** 20 + minor && key.direction === 'read');
  const sum = (word: number) => reads.reduce((all, { words }) => all + (words[word] ?? 0), 0);
  const { merged: _, ...irregular } = probe.stats().irregular;
  return {
    ...irregular,
    operations: sum(blockWords.operations),
    bytes: sum(blockWords.bytes),
    queueNs: sum(blockWords.queueSumNs),
    deviceNs: sum(blockWords.deviceSumNs),
  };
}

function less(a: ByOne, b: ByOne): ByOne {
  const names = Object.keys(a) as (keyof ByOne)[];
  return Object.fromEntries(names.map(name => [name, a[name] - b[name]])) as ByOne;
}
