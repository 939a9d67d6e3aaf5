import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import type { SchedScript } from '../../src/agent/bpftrace/sched-script.ts';
import { latenciesOf, word } from '../../src/agent/probes/sched-layout.ts';
import type { CgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import { countOf, quantileOctave, toOctaves } from '../support/octaves.ts';
import { findOracle, type Oracle, startOracle } from '../support/oracle.ts';
import { endChild } from '../support/scene.ts';
import { holdsSchedParity, seeSchedParity, settled, startScript } from '../support/sched-parity.ts';
import {
  endAll,
  makeBox,
  near,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../support/sched-scene.ts';

const runqlat = findOracle('runqlat');
const cpudist = findOracle('cpudist');

let script: SchedScript | null = null;
const oracles: Oracle[] = [];
test.afterEach.always(async () => {
  for (const oracle of oracles.splice(0)) oracle.kill();
  await script?.stop();
  script = null;
  await endAll();
});

const unifiedRoot = existsSync('/sys/fs/cgroup/cgroup.controllers')
  ? '/sys/fs/cgroup'
  : '/sys/fs/cgroup/unified';
const unifiedTest = existsSync(`${unifiedRoot}/cgroup.procs`)
  ? needs('root', 'btf', 'bpftrace', 'tracefs')
  : test.skip;
const parityTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'bpftrace', 'tracefs');

async function look(path: string, programs: number, ...options: string[]): Promise<Oracle> {
  const oracle = await startOracle(path, programs, ...options);
  oracles.push(oracle);
  return oracle;
}

type Loaded = { readonly box: CgroupBox; readonly tgid: number };

/** A task that wants its CPU a thousand times a second, beside one that always does; both end before this resolves. */
async function load(): Promise<{ readonly often: Loaded; readonly always: Loaded }> {
  const [box, other] = [makeBox('usual'), makeBox('usual')];
  const always = await startPinned(other, 0, ...spin);
  const periodic = ['latency', '--period-us', '1000', '--burn-us', '300'];
  const often = await startPinned(box, 0, workload, ...periodic);
  await pause(4000);
  await endChild(often);
  await endChild(always);
  return { often: { box, tgid: often.pid ?? 0 }, always: { box: other, tgid: always.pid ?? 0 } };
}

(runqlat ? parityTest : test.skip)(
  'run-queue latency by libbpf, bpftrace and runqlat: counts within 2 %, p50 and p99 within one bucket',
  async t => {
    t.timeout(90_000);
    const probe = startProbe();
    script = await startScript();
    const oracle = await look(runqlat ?? '', 3);
    // The load begins and ends while all look: no moment of it is one's alone.
    const { box, tgid } = (await load()).often;
    const theirs = await oracle.end(tgid);
    const both = {
      libbpf: probe.detailsOf([box.id]).get(box.id) ?? new Float64Array(),
      bpftrace: await settled(script, box),
    };

    t.true(countOf(theirs) > 1000, `${countOf(theirs)} latencies by runqlat`);
    for (const [name, counters] of Object.entries(both)) {
      const ours = toOctaves(latenciesOf(counters).slots);
      near(t, countOf(ours) / countOf(theirs), 1, 0.02, `counts by ${name}`);
      for (const ratio of [0.5, 0.99]) {
        const [got, wanted] = [quantileOctave(ours, ratio), quantileOctave(theirs, ratio)];
        near(t, got, wanted, 1, `p${ratio * 100} by ${name}`);
      }
    }
    // Of waits as short as the median's each has a part of the other's programs in it.
    const [ours, theirsByScript] = [both.libbpf, both.bpftrace].map(counters =>
      quantileOctave([...latenciesOf(counters).slots], 0.99),
    );
    near(t, theirsByScript ?? 0, ours ?? 0, 1, 'p99 by quarters of an octave');
  },
);

parityTest(
  'run time, wait, throttled time, user and kernel time, switches, wake-ups, moves, sleeps by reason, and whom waits were for, by libbpf and bpftrace',
  async t => {
    t.timeout(90_000);
    holdsSchedParity(t, await seeSchedParity());
  },
);

(cpudist ? needs('root', 'btf', 'addon', 'cgroupV1Cpu') : test.skip)(
  'switches by libbpf and cpudist: counts within 2 %',
  async t => {
    t.timeout(60_000);
    const probe = startProbe();
    // It tells turns on a CPU that ended with a task still runnable; of turns off it (-O), all.
    const [preempted, off] = [await look(cpudist ?? '', 1), await look(cpudist ?? '', 1, '-O')];
    const { often, always } = await load();
    const switchesOf = ({ box }: Loaded) => {
      const counters = probe.detailsOf([box.id]).get(box.id) ?? new Float64Array();
      const involuntary = word(counters, 'involuntarySwitches');
      return { involuntary, all: involuntary + word(counters, 'voluntarySwitches') };
    };
    const byCpudist = {
      involuntary: countOf(await preempted.end(always.tgid)),
      all: countOf(await off.end(often.tgid)),
    };
    for (const count of Object.values(byCpudist)) t.true(count > 1000, `${count} by cpudist`);
    near(t, switchesOf(always).involuntary / byCpudist.involuntary, 1, 0.02, 'preempted');
    near(t, switchesOf(often).all / byCpudist.all, 1, 0.02, 'off the CPU');
  },
);

unifiedTest('on cgroup v2 bpftrace charges the cgroup of the one hierarchy', async t => {
  script = await startScript(false);
  const box = makeBox('usual', unifiedRoot);
  const child = await startPinned(box, 0, ...spin);
  await pause(1000);
  await endChild(child);
  const counted = await settled(script, box);
  // The task's own account would have what it ran as a shell, before it was in the cgroup.
  const [, microseconds] = /^usage_usec (\d+)$/m.exec(box.read('cpu.stat')) ?? [];
  near(t, word(counted, 'runNs') / 1e9, Number(microseconds) / 1e6, 0.05, 'run time');
  t.true(Number(microseconds) > 1e5, `${microseconds} µs`);
});
