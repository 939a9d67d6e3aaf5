import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { runBpftrace } from '../../src/agent/bpftrace/run.ts';
import { type SchedScript, startSchedScript } from '../../src/agent/bpftrace/sched-script.ts';
import { blockedReasons, counterWords, word } from '../../src/agent/probes/sched-layout.ts';
import type { Counters } from '../../src/agent/sources/counters.ts';
import { realClock } from '../../src/cli/clock.ts';
import { ownBtf } from '../../src/linux/native.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import type { CgroupBox } from './cgroup-box.ts';
import { endChild, eventually } from './scene.ts';
import {
  isCgroupV1,
  makeBox,
  near,
  setQuota,
  spin,
  startPinned,
  startProbe,
  workload,
} from './sched-scene.ts';

/** bpf/sched.bt, attached; each of two CPUs is a node of its own. */
export function startScript(cgroupV1 = isCgroupV1): Promise<SchedScript> {
  return startSchedScript({
    run: runBpftrace,
    cgroupV1,
    detailSeconds: 0.5,
    nodeOfCpu: [0, 1],
    kernelBtf: ownBtf(),
    roots: hostRoots,
    clock: realClock,
    say: () => undefined,
  });
}

/** What it has counted of a cgroup in which nothing runs any more, once bpftrace has come to print all of it. */
export async function settled(asked: SchedScript, box: CgroupBox): Promise<Counters> {
  let last: Counters = new Float64Array();
  return eventually('bpftrace has printed what it counted', 30, async () => {
    const before = last;
    await pause(1000);
    last = asked.detailsOf([box.id]).get(box.id) ?? before;
    return last.length > 0 && last.every((value, i) => value === before[i]) ? last : null;
  });
}

/** As JSON has it. */
type Both<What> = { readonly libbpf: What; readonly bpftrace: What };

const scenes = ['often', 'always', 'quota', 'relay', 'shell', 'disk'] as const;

export type SchedParity = {
  /** By cgroup: its `Counters`. */
  readonly counters: Readonly<Record<(typeof scenes)[number], Both<readonly number[]>>>;
  /** ns that tasks of the relay had waited for its lock while they did. */
  readonly meanwhile: Both<number>;
  /** ns that one waited for another: often for always, and always for often. */
  readonly pairs: Both<readonly number[]>;
  readonly lost: Readonly<Record<string, number>>;
};

/** Tasks that wait, sleep, are throttled, take locks, begin and end, and write to a disk, as both ways count them. */
export async function seeSchedParity(): Promise<SchedParity> {
  const probe = startProbe({ nodeOfCpu: [0, 1] });
  const asked = await startScript();
  const file = `${tmpdir()}/sculptor-parity-${process.pid}`;
  try {
    probe.takePairs();
    asked.takePairs();
    const boxes = {
      often: makeBox('usual'),
      always: makeBox('usual'),
      quota: makeBox('usual'),
      relay: makeBox('usual'),
      shell: makeBox('usual'),
      disk: makeBox('usual'),
    };
    setQuota(boxes.quota, 0.2);
    const periodic = ['latency', '--period-us', '1000', '--burn-us', '300'];
    const writer = ['if=/dev/zero', `of=${file}`, 'bs=4k', 'count=50000', 'oflag=dsync'];
    const children = [
      await startPinned(boxes.often, 0, workload, ...periodic),
      await startPinned(boxes.always, 0, ...spin),
      boxes.quota.spawn(workload, 'spin', '--threads', '2'),
      boxes.relay.spawn(workload, 'convoy', '--threads', '4'),
      boxes.shell.spawn('sh', '-c', 'while :; do /bin/true; done'),
      boxes.disk.spawn('dd', ...writer, 'status=none'),
    ];
    await pause(5000);
    const lockOf = (one: Pick<SchedScript, 'detailsOf'>): number =>
      word(
        one.detailsOf([boxes.relay.id]).get(boxes.relay.id) ?? new Float64Array(counterWords),
        'blockedNs',
        blockedReasons.indexOf('lock'),
      );
    const meanwhile = { libbpf: lockOf(probe), bpftrace: lockOf(asked) };
    for (const child of children) await endChild(child);
    const counters = await Promise.all(
      scenes.map(async scene => {
        const { [scene]: box } = boxes;
        const bpftrace = [...(await settled(asked, box))];
        return [scene, { libbpf: [...(probe.detailsOf([box.id]).get(box.id) ?? [])], bpftrace }];
      }),
    );
    const pairsOf = (one: Pick<SchedScript, 'takePairs'>): number[] => {
      const sums = [0, 0];
      one.takePairs().forEach((waiter, preemptor, ns) => {
        if (waiter === boxes.often.id && preemptor === boxes.always.id) sums[0] = ns;
        if (waiter === boxes.always.id && preemptor === boxes.often.id) sums[1] = ns;
      });
      return sums;
    };
    return {
      counters: Object.fromEntries(counters) as SchedParity['counters'],
      meanwhile,
      pairs: { libbpf: pairsOf(probe), bpftrace: pairsOf(asked) },
      lost: { ...asked.counters().lost },
    };
  } finally {
    await asked.stop();
    rmSync(file, { force: true });
  }
}

type Compared = readonly [
  scene: (typeof scenes)[number],
  what: Parameters<typeof word>[1],
  /** What there must be of it. */
  least: number,
  within?: number,
  reason?: (typeof blockedReasons)[number],
];

const compared: readonly Compared[] = [
  ['often', 'runNs', 1e8],
  ['often', 'waitNs', 1e8],
  ['often', 'voluntarySwitches', 1000],
  ['often', 'wakeups', 1000],
  ['often', 'latencyCount', 1000],
  ['often', 'blockedNs', 1e9, 0.02, 'sleep'],
  ['always', 'runNs', 1e8],
  ['always', 'waitNs', 1e8],
  ['always', 'involuntarySwitches', 400],
  ['always', 'userNs', 2e8],
  ['quota', 'runNs', 4e8],
  ['quota', 'throttledNs', 5e8, 0.05],
  ['relay', 'blockedNs', 5e9, 0.02, 'lock'],
  ['shell', 'voluntarySwitches', 200],
  ['shell', 'kernelNs', 1e8],
  ['shell', 'migrations', 5, 0.1],
  ['shell', 'nodeMigrations', 5, 0.1],
  ['shell', 'blockedNs', 1e7, 0.02, 'uninterruptible'],
  ['disk', 'blockedNs', 1e8, 0.05, 'io'],
];

/** `slack`: how many times what is allowed here; `but`: what this machine cannot do. */
export function holdsSchedParity(
  t: ExecutionContext,
  { counters, meanwhile, pairs }: SchedParity,
  { slack = 1, but = [] }: { slack?: number; but?: readonly (typeof scenes)[number][] } = {},
): void {
  for (const [scene, what, least, within = 0.02, reason] of compared) {
    if (but.includes(scene)) continue;
    const nth = reason === undefined ? 0 : blockedReasons.indexOf(reason);
    const { libbpf, bpftrace } = counters[scene];
    const [ours, theirs] = [libbpf, bpftrace].map(words =>
      word(Float64Array.from(words), what, nth),
    ) as [number, number];
    const name = `${scene}: ${what}${reason ? ` (${reason})` : ''}: ${ours} by libbpf, ${theirs} by bpftrace`;
    t.log(name);
    t.true(ours >= least, name);
    near(t, theirs / ours, 1, slack * within, name);
  }
  // It was printed half a second ago.
  near(t, meanwhile.bpftrace / meanwhile.libbpf, 1, 0.2, 'who sleeps, while it does');
  // Of long waits a part is charged whole to who ran at one instant, by either in its own way.
  for (const nth of [0, 1]) {
    const [ours = 0, theirs = 0] = [pairs.libbpf[nth], pairs.bpftrace[nth]];
    const name = `pair ${nth}: ${ours} by libbpf, ${theirs} by bpftrace`;
    t.log(name);
    t.true(ours > 1e8, name);
    near(t, theirs / ours, 1, slack * 0.2, name);
  }
}
