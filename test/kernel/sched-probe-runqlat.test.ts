import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { latenciesOf } from '../../src/agent/probes/sched-layout.ts';
import { readText } from '../../src/linux/read-file.ts';
import { needs } from '../support/needs.ts';
import {
  countOf,
  type Octaves,
  parseOctaves,
  quantileOctave,
  toOctaves,
} from '../support/octaves.ts';
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

/** The histogram of one process in what `runqlat -P` prints, which has a block for each. */
function octavesOf(printed: string, tgid: number): Octaves {
  return parseOctaves(printed.split(/^pid = /m).find(each => each.startsWith(`${tgid} `)) ?? '');
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
    t.true(countOf(theirs) > 1000, `${countOf(theirs)} latencies by runqlat`);
    near(t, countOf(ours) / countOf(theirs), 1, 0.02, 'counts');
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
