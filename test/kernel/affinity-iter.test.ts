import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import test from 'ava';
import { loadNative } from '../../src/linux/native.ts';
import { openMaskedThreads, openOwnMasks } from '../../src/linux/own-masks.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { structLayout } from '../support/btf-layout.ts';
import { needs } from '../support/needs.ts';
import { endChild, eventually } from '../support/scene.ts';

const object = new URL('../../build/bpf/affinity.bpf.o', import.meta.url).pathname;
const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
const kernelTest = needs('root', 'btf', 'addon');
const children: ChildProcess[] = [];

test.afterEach.always(async () => {
  await Promise.all(children.splice(0).map(endChild));
});

/** A process of `count` sleeping threads, as soon as all of them are there. */
async function startThreads(count: number, ...prefix: string[]): Promise<number> {
  const [command = workload, ...args] = [...prefix, workload, 'threads', '--count', `${count}`];
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  children.push(child);
  await eventually(`${count} threads`, 5, () =>
    existsSync(`/proc/${child.pid}/task`) && readdirSync(`/proc/${child.pid}/task`).length === count
      ? true
      : null,
  );
  return child.pid ?? 0;
}

/** Field 22 of /proc/PID/stat: the 20th after the name in parentheses. */
function startTicks(tid: number): number {
  const stat = readFileSync(`/proc/${tid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
}

kernelTest(
  'a thread that asked for a mask of its own has one, and one that did not has none',
  async t => {
    const pinned = await startThreads(1, 'taskset', '-c', '0');
    const inherited = await startThreads(1);
    const reader = openOwnMasks(loadNative(), hostRoots);
    t.teardown(reader.close);
    const masks = reader.read();
    t.like(masks.get(pinned), { ownMask: true, asked: [0] });
    // A child inherits its parent's, which whoever started this test may have set.
    t.is(masks.get(inherited)?.ownMask, masks.get(process.pid)?.ownMask);
    t.not(masks.get(process.pid)?.ownMask, null);
    const masked = openMaskedThreads(loadNative());
    t.teardown(masked.close);
    const tids = masked.read();
    t.true(tids?.has(pinned));
    for (const [tid, { ownMask }] of masks)
      if (tid !== pinned && existsSync(`/proc/${tid}`)) t.is(tids?.has(tid), ownMask === true);
  },
);

kernelTest('every thread is there, with its process and its start as /proc counts it', async t => {
  const tgid = await startThreads(300);
  const reader = openOwnMasks(loadNative(), hostRoots);
  t.teardown(reader.close);
  const masks = reader.read();
  for (const name of readdirSync(`/proc/${tgid}/task`)) {
    const tid = Number(name);
    t.like(masks.get(tid), { tgid, startTicks: startTicks(tid) });
  }
});

kernelTest('what changed between two reads shows in the second', async t => {
  const native = loadNative();
  const tid = await startThreads(1);
  const reader = openOwnMasks(native, hostRoots);
  t.teardown(reader.close);
  reader.read();
  t.deepEqual(native.setAffinity(Int32Array.of(tid), Int32Array.of(0)), Int32Array.of(0));
  t.like(reader.read().get(tid), { ownMask: true, asked: [0] });
});

(existsSync(object) ? test : test.skip)('a record is laid out as the decoder reads it', t => {
  t.deepEqual(structLayout(object, 'mask_record'), {
    bytes: 24,
    offsets: { start_boottime_ns: 0, tid: 8, tgid: 12, own_mask: 16, words: 20 },
  });
});
