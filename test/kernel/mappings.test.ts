import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import {
  type MappingReader,
  openMappings,
  openProcMappings,
  type Range,
} from '../../src/linux/mappings.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { structLayout } from '../support/btf-layout.ts';
import { needs } from '../support/needs.ts';
import { endChild } from '../support/scene.ts';

const object = new URL('../../build/bpf/mappings.bpf.o', import.meta.url).pathname;
const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
const kernelTest = needs('root', 'btf', 'addon');

/** As /proc tells it to who may trace the process. */
function mapsOf(tgid: number): Range[] {
  return readFileSync(`/proc/${tgid}/maps`, 'latin1')
    .split('\n')
    .filter(line => /^\S+ [r-][w-][x-]/.test(line) && !/ ---|\[(vsyscall|vvar)/.test(line))
    .map(line => {
      const [start = 0, end = 0] = line.split(/[- ]/).map(text => Number.parseInt(text, 16));
      return { start, end };
    });
}

/** A process with so many mappings, and threads that map and unmap all the time. */
async function startMapping(t: ExecutionContext, count: number, threads: number): Promise<number> {
  const args = ['map', '--count', `${count}`, '--threads', `${threads}`];
  const child = spawn(workload, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => endChild(child));
  await once(child.stdout, 'data');
  return child.pid ?? 0;
}

function open(t: ExecutionContext): MappingReader {
  const mappings = openMappings(loadNative());
  t.teardown(mappings.close);
  return mappings;
}

kernelTest(
  'what a process can use memory at is what /proc tells, without what is reserved',
  async t => {
    const mappings = open(t);
    const tgid = await startMapping(t, 100, 0);
    t.true(mapsOf(tgid).length > 100);
    t.deepEqual(await mappings.of(tgid), mapsOf(tgid));
    t.true((await mappings.of(process.pid)).length > 50, 'of each that is asked for');
    t.deepEqual(await mappings.of(tgid), mapsOf(tgid));
    t.deepEqual(await mappings.of(2), [], 'nothing of a thread of the kernel');
    await t.throwsAsync(mappings.of(0), { code: 'EINVAL' });
    await t.throwsAsync(mappings.of(Number.NaN), { code: 'EINVAL' });
  },
);

kernelTest('to root /proc tells the same as the iterator', async t => {
  const ours = open(t);
  const proc = openProcMappings(hostRoots);
  const tgid = await startMapping(t, 20_000, 0);
  const told = await proc.of(tgid);
  t.true(told.length > 10_000, `${told.length}`);
  t.deepEqual(told, await ours.of(tgid));
  t.deepEqual(await proc.of(2), [], 'nothing of a thread of the kernel');
  t.deepEqual(await proc.of(2 ** 22 + 1), [], 'nor of one that has ended');
});

kernelTest('more mappings than one read has room for are each told once', async t => {
  const tgid = await startMapping(t, 20_000, 0);
  t.deepEqual(await open(t).of(tgid), mapsOf(tgid));
});

kernelTest(
  'a process that maps and unmaps all the time is read to its end, and in order',
  async t => {
    const mappings = open(t);
    const tgid = await startMapping(t, 3000, 2);
    const settled = mapsOf(tgid).length;
    for (let reads = 0; reads < 300; reads += 1) {
      const ranges = await mappings.of(tgid);
      t.true(ranges.length >= 3000 && ranges.length < settled + 10, `${ranges.length}`);
      const isInOrder = ranges.every(
        ({ start, end }, i) => end > start && start >= (ranges[i - 1]?.end ?? 0),
      );
      t.true(isInOrder);
    }
  },
);

kernelTest('nothing is told of a process that has ended', async t => {
  const mappings = open(t);
  const child = spawn(workload, ['map', '--count', '10'], { stdio: 'ignore' });
  await once(child, 'spawn');
  await endChild(child);
  t.deepEqual(await mappings.of(child.pid ?? 0), []);
});

(existsSync(object) ? test : test.skip)('a record is laid out as the decoder reads it', t => {
  t.deepEqual(structLayout(object, 'mapping_record'), {
    bytes: 16,
    offsets: { start: 0, end: 8 },
  });
});
