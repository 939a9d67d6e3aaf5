import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import { openMappings, type Range } from '../../src/linux/mappings.ts';
import { loadNative } from '../../src/linux/native.ts';
import { structLayout } from '../support/btf-layout.ts';
import { needs } from '../support/needs.ts';
import { endChild } from '../support/scene.ts';

const object = new URL('../../build/bpf/mappings.bpf.o', import.meta.url).pathname;
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

kernelTest(
  'what a process can use memory at is what /proc tells, without what is reserved',
  async t => {
    const child = spawn('sleep', ['100'], { stdio: 'ignore' });
    t.teardown(() => endChild(child));
    await once(child, 'spawn');
    const mappings = openMappings(loadNative());
    t.teardown(mappings.close);
    // Until it runs the program that it was to.
    while (!mapsOf(child.pid ?? 0).length) await new Promise(setImmediate);
    const of = (tgid: number | undefined) => mappings.of(tgid ?? 0);
    t.true(of(child.pid).length > 5);
    t.deepEqual(of(child.pid), mapsOf(child.pid ?? 0));
    t.true(of(process.pid).length > 50, 'of each that is asked for');
    t.deepEqual(of(child.pid), mapsOf(child.pid ?? 0));
    await endChild(child);
    t.deepEqual(of(child.pid), [], 'nothing of one that has ended');
    t.deepEqual(of(2), [], 'nor of a thread of the kernel');
  },
);

(existsSync(object) ? test : test.skip)('a record is laid out as the decoder reads it', t => {
  t.deepEqual(structLayout(object, 'mapping_record'), {
    bytes: 16,
    offsets: { start: 0, end: 8 },
  });
});
