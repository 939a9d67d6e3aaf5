import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { latenciesOf } from '../../src/agent/probes/sched-layout.ts';
import { readText } from '../../src/linux/read-file.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import {
  endAll,
  makeBox,
  near,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../support/sched-scene.ts';

const runqlat = '/usr/sbin/runqlat';
if (!existsSync(runqlat)) console.error(`# skipped: ${runqlat} is not there (libbpf-tools)`);
const parityTest = existsSync(runqlat) ? needs('root', 'btf', 'addon', 'cgroupV1Cpu') : test.skip;
test.afterEach.always(endAll);

/** Counts by octave of µs: `octaves[n]` counts 2^n to 2^(n+1) − 1 µs, and 0 µs is in the first. */
type Octaves = number[];

/** The histogram of one process in what `runqlat -P` prints, which has a block for each. */
function octavesOf(printed: string, tgid: number): Octaves {
  const block = printed.split(/^pid = /m).find(each => each.startsWith(`${tgid} `)) ?? '';
  const octaves: Octaves = [];
  for (const [, from, count] of block.matchAll(/^\s+(\d+) -> \d+\s+: (\d+)/gm))
    octaves[Math.floor(Math.log2(Math.max(1, Number(from))))] = Number(count);
  return octaves;
}

/** Octave in which the quantile lies. */
function quantileOctave(octaves: Octaves, ratio: number): number {
  const all = sum(octaves);
  let seen = 0;
  return octaves.findIndex(count => {
    seen += count ?? 0;
    return seen >= ratio * all;
  });
}

const sum = (octaves: Octaves) => octaves.reduce((total, count) => total + (count ?? 0), 0);

/** The probe's slots of a quarter of an octave each, from 2^−30 s on, as octaves of µs. */
function toOctaves(slots: Float64Array): Octaves {
  const octaves: Octaves = [];
  for (const [slot, count] of slots.entries()) {
    const middleUs = 2 ** ((slot + 0.5) / 4 - 30) * 1e6;
    const octave = Math.max(0, Math.floor(Math.log2(middleUs)));
    octaves[octave] = (octaves[octave] ?? 0) + count;
  }
  return octaves;
}

parityTest(
  'counts are those of runqlat within 2 %, p50 and p99 within one of its buckets',
  async t => {
    t.timeout(60_000);
    const probe = startProbe();
    const oracle = spawn(runqlat, ['-P'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise(resolve => oracle.once('close', resolve));
    let printed = '';
    oracle.stdout.on('data', text => {
      printed += text;
    });
    await eventually('runqlat is attached', 20, () => (isAttached(oracle.pid ?? 0) ? true : null));
    // The load begins and ends while both look: no moment of it is one's alone.
    const [box, other] = [makeBox('usual'), makeBox('usual')];
    await startPinned(other, 0, ...spin);
    const often = ['latency', '--period-us', '1000', '--burn-us', '300'];
    const child = await startPinned(box, 0, workload, ...often);
    await pause(4000);
    const exit = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exit;
    oracle.kill('SIGINT');
    await ended;

    const ours = toOctaves(latenciesOf(probe.detailsOf(box.id) ?? new Float64Array()).slots);
    const theirs = octavesOf(printed, child.pid ?? 0);
    t.true(sum(theirs) > 1000, `${sum(theirs)} latencies by runqlat`);
    near(t, sum(ours) / sum(theirs), 1, 0.02, 'counts');
    for (const ratio of [0.5, 0.99])
      near(t, quantileOctave(ours, ratio), quantileOctave(theirs, ratio), 1, `p${ratio * 100}`);
  },
);

/** Whether a process holds links to its programs. */
function isAttached(pid: number): boolean {
  const folder = `/proc/${pid}/fdinfo`;
  const links = readdirSync(folder).filter(fd =>
    /^link_id:/m.test(readText(`${folder}/${fd}`) ?? ''),
  );
  return links.length >= 3;
}
