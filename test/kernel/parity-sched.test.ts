import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { runBpftrace } from '../../src/agent/bpftrace/run.ts';
import { type SchedDriver, startSchedDriver } from '../../src/agent/bpftrace/sched-driver.ts';
import type { LivingInstance } from '../../src/agent/instances/instances.ts';
import { latenciesOf, word } from '../../src/agent/probes/sched-layout.ts';
import { realClock } from '../../src/cli/clock.ts';
import type { ExponentialHistogram } from '../../src/contract/telemetry.ts';
import { instanceAt } from '../../src/linux/instance-at.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import type { CgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import { countOf, type Octaves, quantileOctave, toOctaves } from '../support/octaves.ts';
import { findOracle, type Oracle, startOracle } from '../support/oracle.ts';
import { endChild, eventually } from '../support/scene.ts';
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

let driver: SchedDriver | null = null;
const oracles: Oracle[] = [];
test.afterEach.always(async () => {
  for (const oracle of oracles.splice(0)) oracle.kill();
  await driver?.stop();
  driver = null;
  await endAll();
});

const unifiedRoot = existsSync('/sys/fs/cgroup/cgroup.controllers')
  ? '/sys/fs/cgroup'
  : '/sys/fs/cgroup/unified';
const unifiedTest = existsSync(`${unifiedRoot}/cgroup.procs`)
  ? needs('root', 'btf', 'bpftrace', 'tracefs')
  : test.skip;
const parityTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'bpftrace', 'tracefs');

/** bpf/runqlat.bt, attached. */
async function startDriver(cgroupV1 = true): Promise<SchedDriver> {
  driver = await startSchedDriver({
    run: runBpftrace,
    cgroupV1,
    latencyIntervalSeconds: 0.2,
    roots: hostRoots,
    clock: realClock,
    say: () => undefined,
  });
  return driver;
}

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

/** The run time (ns) of a cgroup in which nothing runs any more, once bpftrace has come to print all of it. */
async function settled({ probe }: SchedDriver, box: CgroupBox): Promise<number> {
  let last = -1;
  return eventually('bpftrace has printed what it counted', 15, async () => {
    const before = last;
    await pause(1000);
    last = probe.readTotals().get(box.id)?.runNs ?? 0;
    return last === before ? last : null;
  });
}

/** The driver's octaves are of 2^−30 s: each is put where the libbpf probe has its middle. */
function octavesByBpftrace({ source }: SchedDriver, box: CgroupBox): Octaves {
  const living: LivingInstance = {
    instance: instanceAt('/a'),
    path: '/a',
    members: new Map([[box.id, '/a']]),
    start: 0,
    totals: { runNs: 0, waitNs: 0, throttledNs: 0 },
    window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
  };
  source.read([living]);
  const value: unknown = source.samples(living)[0]?.value;
  const { offset, counts } = value as ExponentialHistogram;
  const slots = new Float64Array(160);
  for (const [i, count] of counts.entries()) slots[(offset + i + 30) * 4 + 2] = count;
  return toOctaves(slots);
}

(runqlat ? parityTest : test.skip)(
  'run-queue latency by libbpf, bpftrace and runqlat: counts within 2 %, p50 and p99 within one bucket; run time and wait within 2 %',
  async t => {
    t.timeout(90_000);
    const probe = startProbe();
    const asked = await startDriver();
    const oracle = await look(runqlat ?? '', 3);
    // The load begins and ends while all look: no moment of it is one's alone.
    const { box, tgid } = (await load()).often;
    const theirs = await oracle.end(tgid);
    await settled(asked, box);

    t.true(countOf(theirs) > 1000, `${countOf(theirs)} latencies by runqlat`);
    const both = {
      libbpf: toOctaves(
        latenciesOf(probe.detailsOf([box.id]).get(box.id) ?? new Float64Array()).slots,
      ),
      bpftrace: octavesByBpftrace(asked, box),
    };
    for (const [name, ours] of Object.entries(both)) {
      near(t, countOf(ours) / countOf(theirs), 1, 0.02, `counts by ${name}`);
      for (const ratio of [0.5, 0.99]) {
        const [got, wanted] = [quantileOctave(ours, ratio), quantileOctave(theirs, ratio)];
        near(t, got, wanted, 1, `p${ratio * 100} by ${name}`);
      }
    }
    const [libbpf, bpftrace] = [probe, asked.probe].map(one => one.readTotals().get(box.id));
    near(t, (bpftrace?.runNs ?? 0) / (libbpf?.runNs ?? 1), 1, 0.02, 'run time');
    near(t, (bpftrace?.waitNs ?? 0) / (libbpf?.waitNs ?? 1), 1, 0.02, 'wait');
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
  const asked = await startDriver(false);
  const box = makeBox('usual', unifiedRoot);
  const child = await startPinned(box, 0, ...spin);
  await pause(1000);
  await endChild(child);
  const runNs = await settled(asked, box);
  // The task's own account would have what it ran as a shell, before it was in the cgroup.
  const [, microseconds] = /^usage_usec (\d+)$/m.exec(box.read('cpu.stat')) ?? [];
  near(t, runNs / 1e9, Number(microseconds) / 1e6, 0.05, 'run time');
  t.true(Number(microseconds) > 1e5, `${microseconds} µs`);
});
