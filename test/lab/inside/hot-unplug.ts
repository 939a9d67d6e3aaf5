/**
 * What a real agent tells of loads on a CPU that goes offline and comes back, on the kernel it is started on, beside the
 * kernel's own accounts; prints one JSON object (`HotUnplugLab`). It asserts nothing: the test outside does.
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { MetricPoint } from '../../../src/contract/telemetry.ts';
import { loadNative } from '../../../src/linux/native.ts';
import {
  type Account,
  accountOf,
  fallen,
  lessAccount,
  usageSeconds,
} from '../../support/accounts.ts';
import type { CgroupBox } from '../../support/cgroup-box.ts';
import { eventually } from '../../support/scene.ts';
import {
  endAll,
  endBoxes,
  makeBox,
  schedstat,
  spin,
  startPinned,
  workload,
} from '../../support/sched-scene.ts';
import { startTold } from '../../support/told-agent.ts';

export type HotUnplugLab = {
  /** Of one task that was moved so often from CPU 2 to CPU 3 and back, then from CPU 1 to it: all, and those across nodes. */
  readonly moves: Readonly<Record<'within' | 'across', { all: number; acrossNodes: number }>>;
  /** From when all were let go until all were stopped again: by the agent, by the kernel's accounts of the tasks, by `cpu.stat`. */
  readonly loads: Readonly<
    Record<
      LoadName,
      {
        readonly told: Account;
        readonly byTasks: Account;
        readonly byCgroup: number;
        /** For how long they wanted to run or slept, by our clock. */
        readonly seconds: number;
      }
    >
  >;
  /** For how long the starved one had waited for CPU 3, without a switch, when that went. */
  readonly openWait: number;
  /** Waits for CPU 3 meanwhile: by the agent, and by the kernel's account of its run queue. */
  readonly ofCpu: { readonly told: number; readonly byQueue: number };
  /** Points of the series of CPU 3 while it was there, was away, and was there again; and of another CPU's meanwhile. */
  readonly points: Readonly<Record<'before' | 'away' | 'after' | 'othersMeanwhile', number>>;
  /** From the last point before to the first one after. */
  readonly across: number;
  /** Counters that fell, or began anew, of all that was told. */
  readonly fell: readonly string[];
  /** How often it went and came: the agent found that before, and more after all else. */
  readonly cycles: number;
  readonly lost: Readonly<Record<string, number>>;
  /** A fault of the scheduler's source would say so. */
  readonly sources: Readonly<Record<string, string>>;
};
type LoadName = 'heavy' | 'starved' | 'sleeper' | 'elsewhere';

const cpu = 3;
const stageSeconds = 4;
const onHost = 'test-host';
writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+cpu');
const native = loadNative();
// The agent finds that CPU offline.
setOnline(false);
const told = await startTold({ detailIntervalSeconds: 2 });
try {
  setOnline(true);
  const moves = await move();
  console.log(JSON.stringify({ moves, ...(await watch()) } satisfies HotUnplugLab));
} finally {
  await told.stop();
  await endAll();
}

async function move(): Promise<HotUnplugLab['moves']> {
  const box = makeBox('most');
  const child = await startPinned(box, 2, ...spin);
  const moveTo = async (nr: number) => {
    native.setAffinity(Int32Array.of(Number(child.pid)), Int32Array.of(nr));
    // Once it has run there it has been moved.
    const before = schedstat(child).runNs;
    await eventually('it runs', 10, () => (schedstat(child).runNs > before ? true : null));
  };
  const counts = async () => {
    const since = Date.now() / 1000;
    const names = ['sculptor.cpu.migrations', 'sculptor.cpu.node_migrations'];
    return eventually('details after the moves', 20, () => {
      const found = names.map(name => told.pointsOf(name, idOf(box)).at(-1));
      const [all, acrossNodes] = found.map(point => Number(point?.value));
      return found.every(point => point && point.time > since + 1)
        ? { all: all ?? 0, acrossNodes: acrossNodes ?? 0 }
        : null;
    });
  };
  const between = async (nr: number) => {
    await moveTo(nr);
    const before = await counts();
    for (let i = 0; i < 10; i += 1) for (const to of [cpu, nr]) await moveTo(to);
    const after = await counts();
    return { all: after.all - before.all, acrossNodes: after.acrossNodes - before.acrossNodes };
  };
  const moves = { within: await between(2), across: await between(1) };
  await endBoxes();
  return moves;
}

async function watch(): Promise<Omit<HotUnplugLab, 'moves'>> {
  // One waits for tens of seconds while the other, of ten thousand times its weight, runs.
  const boxes: Record<LoadName, CgroupBox> = {
    heavy: makeBox('most'),
    starved: makeBox('fewest'),
    sleeper: makeBox('most'),
    elsewhere: makeBox('most'),
  };
  const tasks: Record<LoadName, ChildProcess[]> = {
    heavy: [await startPinned(boxes.heavy, cpu, ...spin)],
    starved: [],
    sleeper: [await startPinned(boxes.sleeper, cpu, workload, 'latency', '--period-us', '5000')],
    elsewhere: [
      await startPinned(boxes.elsewhere, 1, ...spin),
      await startPinned(boxes.elsewhere, 1, ...spin),
    ],
  };
  // It would not become what it is to be before the other is stopped.
  const all = () => Object.values(tasks).flat();
  await stopAll(all());
  tasks.starved.push(await startPinned(boxes.starved, cpu, ...spin));
  await stopAll(all());
  const names = Object.keys(boxes) as LoadName[];
  const accounts = async () => {
    const since = Date.now() / 1000;
    const ofAll = await Promise.all(names.map(name => tellsOf(boxes[name], since)));
    return new Map(
      names.map((name, nth) => [
        name,
        {
          told: ofAll[nth] ?? missing(name),
          byTasks: accountOf(tasks[name]),
          byCgroup: usageSeconds(boxes[name]),
        },
      ]),
    );
  };
  const before = await accounts();
  const queueBefore = waitedInQueue();
  await toldSince(cpu, Date.now() / 1000, 1);
  const beganAt = Date.now() / 1000;

  const began = performance.now();
  for (const child of all()) child.kill('SIGCONT');
  const starved = tasks.starved[0] ?? missing('starved');
  await pause(stageSeconds * 1000);
  const openWait = await waitsAlready(starved);
  setOnline(false);
  const wentAt = Date.now() / 1000;
  await pause(stageSeconds * 1000);
  await toldSince(1, wentAt, 2);
  const cameAt = Date.now() / 1000;
  setOnline(true);
  const back = [...tasks.heavy, ...tasks.starved, ...tasks.sleeper].map(({ pid }) => Number(pid));
  native.setAffinity(Int32Array.from(back), Int32Array.of(cpu));
  await pause(stageSeconds * 1000);
  await stopAll(all());
  const seconds = (performance.now() - began) / 1000;

  const after = await accounts();
  const queueAfter = waitedInQueue();
  await toldSince(cpu, Date.now() / 1000, 1);
  const ids = [...names.map(name => idOf(boxes[name])), '/', onHost];
  const points = ids.flatMap(id => told.allPointsOf(id).map(point => ({ id, point })));
  const series = waitsFor(cpu);
  const since = series.slice(series.findLastIndex(({ time }) => time <= beganAt));
  const between = (points: readonly MetricPoint[], from: number, to: number) =>
    points.filter(({ time }) => time > from && time <= to).length;
  const [lastBefore] = series.filter(({ time }) => time <= wentAt).slice(-1);
  const firstAfter = series.find(({ time }) => time > cameAt);
  const cycles = 4;
  for (let more = 1; more < cycles; more += 1) {
    setOnline(false);
    setOnline(true);
  }
  const status = told.agent.status();
  return {
    loads: Object.fromEntries(
      names.map(name => {
        const [from, to] = [before.get(name) ?? missing(name), after.get(name) ?? missing(name)];
        return [
          name,
          {
            told: lessAccount(to.told, from.told),
            byTasks: lessAccount(to.byTasks, from.byTasks),
            byCgroup: to.byCgroup - from.byCgroup,
            seconds,
          },
        ];
      }),
    ) as HotUnplugLab['loads'],
    openWait,
    ofCpu: { told: grownIn(since), byQueue: queueAfter - queueBefore },
    points: {
      before: between(series, 0, wentAt),
      away: between(series, wentAt, cameAt),
      after: between(series, cameAt, Number.POSITIVE_INFINITY),
      othersMeanwhile: between(waitsFor(1), wentAt, cameAt),
    },
    across: Number(firstAfter?.value) - Number(lastBefore?.value),
    fell: fallen(points),
    cycles,
    lost: status.lost,
    sources: status.sources,
  };
}

/** Waits for a CPU, of the host. */
function waitsFor(nr: number): MetricPoint[] {
  return told
    .pointsOf('sculptor.cpu.runqueue.wait', onHost)
    .filter(({ attributes }) => attributes['cpu.logical_number'] === nr);
}

/** Resolves when so many points of them have come that are of after `since` by a second: they tell of what was read then. */
async function toldSince(nr: number, since: number, count: number): Promise<void> {
  await eventually(`waits for CPU ${nr}`, 60, () =>
    waitsFor(nr).filter(({ time }) => time > since + 1).length >= count ? true : null,
  );
}

function missing(what: string): never {
  throw new Error(`nothing of ${what}`);
}

function setOnline(online: boolean): void {
  writeFileSync(`/sys/devices/system/cpu/cpu${cpu}/online`, online ? '1' : '0');
}

function idOf(box: CgroupBox): string {
  return `/${basename(box.folder)}`;
}

/** Whoever is stopped stands still in every account. One that waits stops when it gets a CPU: the others go first. */
async function stopAll(children: readonly ChildProcess[]): Promise<void> {
  for (const child of children) child.kill('SIGSTOP');
  await eventually('all are stopped', 30, () =>
    children.every(({ pid }) => /^State:\tT/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
      ? true
      : null,
  );
}

/** What is told of a stopped instance by an export after `since`, of which the details are of after it too. */
async function tellsOf(box: CgroupBox, since: number): Promise<Account> {
  const last = (metric: string, type?: string): MetricPoint | undefined =>
    told
      .pointsOf(metric, idOf(box))
      .filter(({ attributes }) => !type || attributes['process.context_switch.type'] === type)
      .at(-1);
  return eventually('an export of what was stopped', 20, () => {
    const found = [
      last('container.cpu.time'),
      last('sculptor.runqueue.wait'),
      last('sculptor.cpu.context_switches', 'voluntary'),
      last('sculptor.cpu.context_switches', 'involuntary'),
    ];
    if (!found.every(point => point && point.time > since + 1)) return null;
    const [run = 0, wait = 0, voluntary = 0, involuntary = 0] = found.map(point =>
      Number(point?.value),
    );
    return { run, wait, voluntary, involuntary };
  });
}

/** Seconds that tasks have waited for the CPU, by the account of its run queue: /proc/schedstat. */
function waitedInQueue(): number {
  const line = readFileSync('/proc/schedstat', 'utf8')
    .split('\n')
    .find(text => text.startsWith(`cpu${cpu} `));
  return Number(line?.split(' ')[8]) / 1e9;
}

/** For how long it has had no turn: its account stands still while it waits. */
async function waitsAlready(child: ChildProcess): Promise<number> {
  const state = () => JSON.stringify(schedstat(child));
  return eventually('a wait of half a second', 60, async () => {
    const [began, before] = [performance.now(), state()];
    await pause(500);
    return state() === before ? (performance.now() - began) / 1000 : null;
  });
}

function grownIn(points: readonly MetricPoint[]): number {
  return points.length === 0 ? 0 : Number(points.at(-1)?.value) - Number(points[0]?.value);
}
