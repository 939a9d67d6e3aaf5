import { describeError } from '../contract/errors.ts';
import { attr } from '../contract/metrics.ts';
import { type Drive, type DriveCounters, parseBlockStats } from '../linux/block-stats.ts';
import { readBootTime, readTaskStat } from '../linux/procfs.ts';
import { askQmp, qmpSocketOf } from '../linux/qmp.ts';
import { findQemu } from '../linux/vcpus.ts';
import type { Sample } from '../otlp/metric-data.ts';
import { dropAbsent } from './absent.ts';
import type { LivingInstance } from './instances.ts';
import { type DiskDirection, diskDirections } from './probes/block.ts';
import type { Source, SourceContext, SourceKind } from './source.ts';

/** What the guests of VMs do on their drives, as their QEMU counts it: asked by QMP. */
export const vdiskSource: SourceKind = {
  name: 'vdisks',
  tells: 'bytes, operations and time of the drives of VMs',
  start: context => startVdiskSource(context, askQmp),
};

type Unknown = 'no_qemu' | 'no_qmp' | 'qmp_silent';

type Counts = Drive['counters'];

/** As it was answered last, and what came since `since`. */
type KnownDrive = { readonly since: number; last: Counts; sum: Counts; absent: number };

type Machine = {
  /** Seconds since the epoch: when it answered last; null: it never did. */
  since: number | null;
  /** By name. */
  readonly drives: Map<string, KnownDrive>;
  /** Those of the last answer that there was no room for. */
  untold: ReadonlySet<string>;
  why: Unknown | null;
  /** Questions without an answer in a row. */
  misses: number;
  nextAsk: number;
  asked: boolean;
};

const turnSeconds = 1;
/** Questions under way at once; a monitor that is silent holds one of them for as long as it may. */
const mostAtOnce = 20;
const qmpLimits = { timeoutSeconds: 2, maxBytes: 1 << 20 };
/** One that does not answer is asked again after 2, 4, 8 … intervals, and at last as seldom. */
const mostIntervals = 32;
/** Drives of one VM that are told. */
const mostDrives = 16;
const ticksPerSecond = 100;
const noSocket = "QEMU has no QMP socket, or libvirt's only (-qmp unix:… is wanted)";
/** Questions in vain until it is said. */
const missesUntilSaid = 4;

/** `ask` is `askQmp`; what it does not answer is counted, and holds up nobody. */
export function startVdiskSource(context: SourceContext, ask: typeof askQmp): Source {
  const { roots, layout, clock, config, say } = context;
  const began = clock.unixSeconds();
  let machines = new Map<LivingInstance, Machine>();
  const ended = new WeakMap<LivingInstance, Machine>();
  const lost = { unanswered: 0, too_many_drives: 0 };
  let underWay = 0;

  const take = (living: LivingInstance, machine: Machine, tgid: number, drives: Drive[]): void => {
    [machine.why, machine.misses] = [null, 0];
    // What a QEMU did before the agent ran is no part of the series; one that came later is told from its beginning.
    const ticks = readTaskStat(roots, tgid)?.startTicks ?? 0;
    const isNew = (readBootTime(roots) ?? 0) + ticks / ticksPerSecond > began;
    const now = clock.unixSeconds();
    const isOld = machine.since === null && !isNew;
    // A drive that is new in an answer came after the answer before.
    const since = machine.since ?? living.start;
    const untold = new Set<string>();
    dropAbsent(machine.drives, new Set(drives.map(({ name }) => name)));
    for (const { name, counters } of drives) {
      const known = machine.drives.get(name);
      if (known) {
        known.sum = advance(known.sum, known.last, counters);
        known.last = counters;
      } else if (machine.drives.size >= mostDrives) untold.add(name);
      else {
        // What it did while it was there and not told is no part of its series.
        const wasThere = isOld || machine.untold.has(name);
        const sum = wasThere ? noCounts : advance(noCounts, noCounts, counters);
        machine.drives.set(name, { since: wasThere ? now : since, last: counters, sum, absent: 0 });
      }
    }
    [machine.since, machine.untold] = [now, untold];
    lost.too_many_drives += untold.size;
  };

  const miss = (living: LivingInstance, machine: Machine, why: Unknown, detail: string): void => {
    machine.why = why;
    machine.misses += 1;
    if (why === 'qmp_silent') lost.unanswered += 1;
    if (machine.misses === missesUntilSaid)
      say('warn', `agent: ${living.instance.name}: its drives are not told: ${detail}`);
  };

  const question = async (living: LivingInstance, machine: Machine): Promise<void> => {
    try {
      const tgid = findQemu(roots, layout, living.members.values(), living.instance.id);
      const socket = tgid === null ? null : qmpSocketOf(roots, tgid);
      if (tgid === null) miss(living, machine, 'no_qemu', 'no process of its cgroup is its QEMU');
      else if (socket === null) miss(living, machine, 'no_qmp', noSocket);
      else {
        const answer = await ask(socket, 'query-blockstats', qmpLimits);
        take(living, machine, tgid, parseBlockStats(answer));
      }
    } catch (error) {
      miss(living, machine, 'qmp_silent', describeError(error));
    }
  };

  const turn = (): void => {
    const now = clock.monotonicSeconds();
    const due = [...machines]
      .filter(([, { asked, nextAsk }]) => !asked && nextAsk <= now)
      .sort(([, a], [, b]) => a.nextAsk - b.nextAsk);
    for (const [living, machine] of due.slice(0, mostAtOnce - underWay)) {
      machine.asked = true;
      underWay += 1;
      void question(living, machine).finally(() => {
        machine.asked = false;
        underWay -= 1;
        const intervals = Math.min(2 ** machine.misses, mostIntervals);
        machine.nextAsk = now + intervals * config.detailIntervalSeconds;
      });
    }
  };
  const stop = clock.every(turnSeconds, turn);

  return {
    name: 'vdisks',
    read: living => {
      const present = living.filter(({ instance }) => instance.kind === 'vm');
      const before = machines;
      machines = new Map(present.map(one => [one, before.get(one) ?? newMachine()]));
      for (const [one, machine] of before) if (!machines.has(one)) ended.set(one, machine);
    },
    samples: living => driveSamples(machines.get(living) ?? ended.get(living)),
    host: () => {
      const counts = { no_qemu: 0, no_qmp: 0, qmp_silent: 0 };
      for (const { why } of machines.values()) if (why !== null) counts[why] += 1;
      return Object.entries(counts).map(([reason, value]) => ({
        metric: 'sculptor.agent.vdisks.unknown',
        attributes: { [attr.reason]: reason },
        value,
      }));
    },
    lost: () => ({ ...lost }),
    forget: () => undefined,
    stop,
  };
}

function newMachine(): Machine {
  return {
    since: null,
    drives: new Map(),
    untold: new Set(),
    why: null,
    misses: 0,
    nextAsk: Number.NEGATIVE_INFINITY,
    asked: false,
  };
}

const none: DriveCounters = { bytes: 0, operations: 0, timeNs: 0 };
const noCounts: Counts = { read: none, write: none, flush: none, discard: none };

/** A QEMU that was started anew, or a drive that was taken out and put in, counts from zero again: then all of it is new. */
function advance(sum: Counts, last: Counts, now: Counts): Counts {
  const of = (direction: DiskDirection): DriveCounters => {
    const [before, after] = [last[direction], now[direction]];
    const from = after.operations < before.operations ? none : before;
    const add = (count: keyof DriveCounters): number =>
      sum[direction][count] + Math.max(0, after[count] - from[count]);
    return { bytes: add('bytes'), operations: add('operations'), timeNs: add('timeNs') };
  };
  return { read: of('read'), write: of('write'), flush: of('flush'), discard: of('discard') };
}

function driveSamples(machine: Machine | undefined): Sample[] {
  return [...(machine?.drives ?? [])].flatMap(([name, { since, last, sum }]) =>
    diskDirections.flatMap((direction): Sample[] => {
      if (last[direction].operations === 0 && sum[direction].operations === 0) return [];
      const of = (metric: Sample['metric'], value: number): Sample => ({
        metric,
        attributes: { [attr.device]: name, [attr.diskDirection]: direction },
        start: since,
        value,
      });
      const { bytes, operations, timeNs } = sum[direction];
      const moves = direction === 'read' || direction === 'write';
      return [
        ...(moves ? [of('sculptor.vdisk.io', bytes)] : []),
        of('sculptor.vdisk.operations', operations),
        of('sculptor.vdisk.time', timeNs / 1e9),
      ];
    }),
  );
}
