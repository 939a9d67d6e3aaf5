import { setTimeout as pause } from 'node:timers/promises';
import type { SchedProbe } from '../../src/agent/probes/sched.ts';
import { blockedReasons, counterWords, word } from '../../src/agent/probes/sched-layout.ts';
import type { CgroupBox } from './cgroup-box.ts';
import {
  cores,
  makeBox,
  readDetails,
  readTogether,
  schedstat,
  setQuota,
  setWeight,
  spin,
  startPinned,
  throttledSeconds,
} from './sched-scene.ts';

const none = new Float64Array(counterWords);

/** What a spinner with a quota of a fifth of its CPU did for some seconds, in cores, and what the kernel says of it. */
export type QuotaSeen = {
  readonly run: number;
  readonly wait: number;
  readonly throttled: number;
  /** Throttled by the account of its cgroup: periods that have ended. */
  readonly byCgroup: number;
  /** Not running by the account of the task: throttled, or waiting. */
  readonly delayed: number;
  /** The latencies that were recorded, added up. */
  readonly latency: number;
  /** What an unthrottled one on the same CPU did meanwhile. */
  readonly neighbour: { readonly run: number; readonly wait: number; readonly throttled: number };
};

/** Alone, or beside a spinner of its own weight without a quota. */
export async function watchQuota(
  probe: SchedProbe,
  neighbours: 'alone' | 'beside',
  { cpu = 0, seconds = 3 }: { cpu?: number; seconds?: number } = {},
): Promise<QuotaSeen> {
  const [hog, neighbour] = [makeBox('most'), makeBox('most')];
  if (neighbours === 'beside') await startPinned(neighbour, cpu, ...spin);
  const child = await startPinned(hog, cpu, ...spin);
  setQuota(hog, 0.2);
  await pause(500);
  const accounts = () => ({
    all: probe.readTotals(),
    byCgroup: throttledSeconds(hog),
    delayedNs: schedstat(child).waitNs,
    latencyNs: word(probe.detailsOf([hog.id]).get(hog.id) ?? none, 'latencySumNs'),
  });
  const [from, before] = readTogether(probe, hog, accounts);
  await pause(seconds * 1000);
  const [to, after] = readTogether(probe, hog, accounts);
  const elapsed = to.at - from.at;
  const ofNeighbour = (field: 'runNs' | 'waitNs' | 'throttledNs') =>
    ((after.all.get(neighbour.id)?.[field] ?? 0) - (before.all.get(neighbour.id)?.[field] ?? 0)) /
    1e9 /
    elapsed;
  const { run, wait, throttled } = cores(from, to);
  return {
    run,
    wait,
    throttled,
    byCgroup: (after.byCgroup - before.byCgroup) / elapsed,
    delayed: (after.delayedNs - before.delayedNs) / 1e9 / elapsed,
    latency: (after.latencyNs - before.latencyNs) / 1e9 / elapsed,
    neighbour: {
      run: ofNeighbour('runNs'),
      wait: ofNeighbour('waitNs'),
      throttled: ofNeighbour('throttledNs'),
    },
  };
}

/** What was charged between two readings: ns that one cgroup waited for another, and what each ran and waited. */
export async function watchPairs(probe: SchedProbe, seconds: number) {
  const from = probe.readDetails();
  await pause(seconds * 1000);
  const to = probe.readDetails();
  const key = (waiter: number, preemptor: number) => `${waiter} ${preemptor}`;
  const waits = new Map<string, number>();
  to.pairs.forEach((waiter, preemptor, ns) => {
    waits.set(key(waiter, preemptor), ns);
  });
  const grown = (box: CgroupBox, field: 'runNs' | 'waitNs') => {
    const of = (details: typeof from) => details.instances.get(box.id) ?? new Float64Array();
    return word(of(to), field) - word(of(from), field);
  };
  return {
    waited: (waiter: CgroupBox, preemptor: CgroupBox) =>
      waits.get(key(waiter.id, preemptor.id)) ?? 0,
    waitedInAll: (waiter: CgroupBox) =>
      [...waits].reduce((sum, [key, ns]) => (key.startsWith(`${waiter.id} `) ? sum + ns : sum), 0),
    ran: (box: CgroupBox) => grown(box, 'runNs'),
    wait: (box: CgroupBox) => grown(box, 'waitNs'),
  };
}

/** A cgroup with a weight of its own, above all else that this machine does, and a task on CPU 0. */
export async function loaded(weight: number, ...command: string[]): Promise<CgroupBox> {
  const box = makeBox();
  setWeight(box, weight * 20);
  await startPinned(box, 0, ...(command.length > 0 ? command : spin));
  return box;
}

/** How one waited for two neighbours, of which one runs three times as much as the other. */
export type ThreeToOne = {
  /** How much more the loud one ran, and was waited for. */
  readonly ran: number;
  readonly waited: number;
  /** Of all that it waited: what was charged to the two and to itself. */
  readonly charged: number;
  readonly lost: number;
};

/** Of weights 3:1; the one that waits runs `command`. */
export async function watchThreeToOne(
  probe: SchedProbe,
  command: readonly string[] = spin,
  seconds = 4,
): Promise<ThreeToOne> {
  return watchOne(probe, await stageThreeToOne(command), seconds);
}

/** As `watchThreeToOne`, what each of several probes sees of the same. */
export async function watchThreeToOneBy(
  probes: readonly SchedProbe[],
  command: readonly string[],
  seconds: number,
): Promise<ThreeToOne[]> {
  const staged = await stageThreeToOne(command);
  return Promise.all(probes.map(probe => watchOne(probe, staged, seconds)));
}

async function stageThreeToOne(command: readonly string[]) {
  const [loud, quiet] = [await loaded(3), await loaded(1)];
  const waiter = await loaded(1, ...command);
  await pause(300);
  return { loud, quiet, waiter };
}

async function watchOne(
  probe: SchedProbe,
  { loud, quiet, waiter }: Awaited<ReturnType<typeof stageThreeToOne>>,
  seconds: number,
): Promise<ThreeToOne> {
  const { waited, ran, wait } = await watchPairs(probe, seconds);
  const all = waited(waiter, loud) + waited(waiter, quiet) + waited(waiter, waiter);
  return {
    ran: ran(loud) / ran(quiet),
    waited: waited(waiter, loud) / waited(waiter, quiet),
    charged: all / wait(waiter),
    lost: probe.counters().lost.pair,
  };
}

export type Rates = Awaited<ReturnType<typeof watchRates>>;

/** What a cgroup did for some seconds, in cores (tasks) by what they did, and counts per second. */
export async function watchRates(probe: SchedProbe, box: CgroupBox, seconds = 2) {
  const from = readDetails(probe, box);
  await pause(seconds * 1000);
  const to = readDetails(probe, box);
  const elapsed = to.at - from.at;
  const grown = (field: Parameters<typeof word>[1], nth = 0) =>
    (word(to.counters, field, nth) - word(from.counters, field, nth)) / elapsed;
  const blocked = Object.fromEntries(
    blockedReasons.map((reason, nth) => [reason, grown('blockedNs', nth) / 1e9]),
  ) as Record<(typeof blockedReasons)[number], number>;
  return {
    ...blocked,
    run: grown('runNs') / 1e9,
    wait: grown('waitNs') / 1e9,
    user: grown('userNs') / 1e9,
    kernel: grown('kernelNs') / 1e9,
    voluntary: grown('voluntarySwitches'),
    involuntary: grown('involuntarySwitches'),
    wakeups: grown('wakeups'),
    migrations: grown('migrations'),
    nodeMigrations: grown('nodeMigrations'),
    elapsed,
  };
}
