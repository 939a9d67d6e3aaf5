import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { type BlockProbe, blockWords, startBlockProbe } from '../../src/agent/probes/block.ts';
import { latencySlots } from '../../src/agent/probes/latency.ts';
import { loadNative } from '../../src/linux/native.ts';
import { deviceOf, type LoopDisk, makeLoopDisk } from '../support/loop-disk.ts';
import { needs } from '../support/needs.ts';
import {
  countOf,
  type Octaves,
  parseOctaves,
  quantileOctave,
  toOctaves,
} from '../support/octaves.ts';
import { endChild, eventually } from '../support/scene.ts';
import { near } from '../support/sched-scene.ts';

const biolatency = '/usr/sbin/biolatency';
if (!existsSync(biolatency)) console.error(`# skipped: ${biolatency} is not there (libbpf-tools)`);
const parityTest = needs('root', 'btf', 'addon', 'loopDevice');

/** Watches one disk as biolatency does; `end` answers its histogram. */
async function startOracle(t: ExecutionContext, disk: LoopDisk) {
  // By lines: it says when it has begun.
  const args = ['-oL', biolatency, '-d', disk.name];
  const oracle = spawn('stdbuf', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => endChild(oracle));
  let printed = '';
  oracle.stdout.on('data', text => {
    printed += text;
  });
  await eventually('biolatency traces', 20, () => (printed.includes('Tracing') ? true : null));
  return {
    end: async (): Promise<Octaves> => {
      const closed = once(oracle, 'close');
      oracle.kill('SIGINT');
      await closed;
      return parseOctaves(printed);
    },
  };
}

/** Of the whole disk: all cgroups, all directions. */
function octavesOf(probe: BlockProbe, disk: LoopDisk, from: number): Octaves {
  const slots = new Float64Array(latencySlots);
  for (const { key, words } of probe.read())
    if (key.device === deviceOf(disk))
      for (let i = 0; i < latencySlots; i += 1) slots[i] = (slots[i] ?? 0) + (words[from + i] ?? 0);
  return toOctaves(slots);
}

/** Reads and writes of 4 KB to 256 KB, some of them four at a time. */
async function load(disk: LoopDisk): Promise<void> {
  const script = `set -e
for size in 4k 16k 64k; do
  dd if=/dev/zero of=${disk.path} bs=$size count=200 oflag=direct status=none
  dd if=${disk.path} of=/dev/null bs=$size count=200 iflag=direct status=none
done
for i in 1 2 3 4; do dd if=/dev/zero of=${disk.path} bs=256k count=50 oflag=direct status=none & done; wait`;
  const [code] = await once(spawn('sh', ['-c', script], { stdio: 'inherit' }), 'exit');
  if (code !== 0) throw new Error(`the load failed: ${code}`);
}

(existsSync(biolatency) ? parityTest : parityTest.skip)(
  'counts are those of biolatency within 2 %, p50 and p99 within one of its buckets',
  async t => {
    t.timeout(60_000);
    const disk = makeLoopDisk(32, 'mq-deadline');
    t.teardown(disk.end);
    const probe = startBlockProbe({ native: loadNative(), cgroupV1: true, maxInstances: 1024 });
    t.teardown(probe.stop);
    const inDevice = await startOracle(t, disk);
    await load(disk);
    const theirs = await inDevice.end();
    const ours = octavesOf(probe, disk, blockWords.deviceSlots);
    t.log(`device: biolatency ${theirs}, ours ${ours}`);
    // 1,400 are asked for; neighbouring writes of the four may be merged into one.
    t.true(countOf(ours) >= 1400 * 0.95, `${countOf(ours)} operations`);
    near(t, countOf(ours) / countOf(theirs), 1, 0.02, 'counts');
    for (const ratio of [0.5, 0.99])
      near(t, quantileOctave(ours, ratio), quantileOctave(theirs, ratio), 1, `p${ratio * 100}`);
  },
);
