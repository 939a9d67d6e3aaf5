import type { Loss } from '../../contract/metrics/losses.ts';
import { attr } from '../../contract/metrics.ts';
import { type Drive, type DriveCounters, parseBlockStats } from '../../linux/block-stats.ts';
import { readQemuArguments } from '../../linux/command-line.ts';
import { parseQemu } from '../../linux/instance-at.ts';
import { findVirsh } from '../../linux/libvirt.ts';
import { readTaskStat, readUptime } from '../../linux/procfs.ts';
import { adviceForQmp, askQmp } from '../../linux/qmp.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { type DiskDirection, diskDirections } from '../probes/block.ts';
import { dropAbsent } from '../sources/absent.ts';
import type { Source, SourceContext, SourceKind } from '../sources/source.ts';
import { createLibvirtTurns } from '../vms/libvirt-turns.ts';
import { createQmpTurns, type Untold } from '../vms/qmp-turns.ts';

/** What the guests of VMs do on their drives, as their QEMU counts it: asked by QMP, or of libvirt where its monitor is libvirt's alone. */
export const vdiskSource: SourceKind = {
  name: 'vdisks',
  tells: 'bytes, operations and time of the drives of VMs',
  start: context => startVdiskSource(context, askQmp),
};

type Why = 'no_qemu' | 'no_qmp' | 'libvirt_silent' | 'libvirt_unknown';

type Counts = Drive['counters'];

/** As it was answered last, and what came since `since`. */
type KnownDrive = { readonly since: number; last: Counts; sum: Counts; absent: number };

type Machine = {
  /** Seconds since the epoch: when it answered last; null: it never did. */
  since: number | null;
  /** When the QEMU that answered last was started, in ticks. */
  startTicks: number;
  /** By name. */
  readonly drives: Map<string, KnownDrive>;
  /** Those of the last answer that there was no room for. */
  untold: ReadonlySet<string>;
};

/** A monitor that is silent holds one of these places for as long as it may. */
const mostAtOnce = 20;
/** Drives of one VM that are told. */
const mostDrives = 16;
const ticksPerSecond = 100;

const virshLimits = { timeoutSeconds: 5, maxBytes: 8 << 20 };

/** `ask` is `askQmp`; what it does not answer is counted, and holds up nobody. `virshOf`: where virsh is, if it is there. */
export function startVdiskSource(
  context: SourceContext,
  ask: typeof askQmp,
  virshOf: () => string | null = findVirsh,
): Source {
  const { roots, clock, config } = context;
  // In ticks: they do not move when the clock is set.
  const beganTicks = (readUptime(roots) ?? 0) * ticksPerSecond;
  let tooManyDrives = 0;

  const startTicksOf = (tgid: number) => readTaskStat(roots, tgid)?.startTicks;

  const take = (living: LivingInstance, machine: Machine, ticks: number, drives: Drive[]): void => {
    // What a QEMU did before the agent ran is no part of the series; one that came later is told from its beginning.
    const isNew = ticks > beganTicks;
    if (machine.startTicks !== ticks) beginAnew(machine, ticks);
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
    tooManyDrives += untold.size;
  };

  const intervalSeconds = () => config.detailIntervalSeconds;
  const ended = new AbortController();
  const libvirt = createLibvirtTurns(clock, intervalSeconds, async domains => {
    const virsh = virshOf();
    if (virsh === null) return new Map();
    const { askLibvirt } = await import('../vms/virsh.ts');
    return await askLibvirt(domains, { virsh, ...virshLimits, signal: ended.signal });
  });

  const askLibvirtOf = async (
    living: LivingInstance,
    machine: Machine,
    tgid: number,
  ): Promise<Untold<Why> | null> => {
    if (virshOf() === null)
      return {
        why: 'no_qmp',
        detail: `libvirt could be asked, but virsh is not here (apt-get install libvirt-clients); else: ${adviceForQmp(roots, tgid)}`,
      };
    const { uuid = null, name = '' } = parseQemu(readQemuArguments(roots, tgid)) ?? {};
    if (uuid === null) return { why: 'libvirt_unknown', detail: 'its QEMU has no UUID' };
    const ticks = startTicksOf(tgid);
    const answer = await libvirt.ask({ uuid, name });
    // By its UUID: what is answered may be of another QEMU by now, and then of another life of the VM.
    if (ticks === undefined || startTicksOf(tgid) !== ticks)
      return { why: 'libvirt_silent', detail: 'its QEMU ended meanwhile', againSeconds: 0 };
    if (answer === null)
      return {
        why: 'libvirt_silent',
        detail: 'virsh did not come to it',
        againSeconds: intervalSeconds(),
      };
    if ('why' in answer) return answer;
    take(living, machine, ticks, answer.drives);
    return null;
  };

  const turns = createQmpTurns<Machine, Why>(context, ask, {
    intervalSeconds,
    mostAtOnce,
    reasons: ['libvirt_silent', 'libvirt_unknown'],
    untold: 'its drives are not told',
    unknownMetric: 'sculptor.agent.vdisks.unknown',
    newKnown: newMachine,
    question: async ({ living, known, tgid, ask }) => {
      const ticks = startTicksOf(tgid);
      const drives = parseBlockStats(await ask('query-blockstats'));
      // Its socket may be another's by now.
      if (ticks === undefined || startTicksOf(tgid) !== ticks)
        return { why: 'no_qemu', detail: 'it ended meanwhile', againSeconds: 0 };
      take(living, known, ticks, drives);
      return null;
    },
    byLibvirt: ({ living, known, tgid }) => askLibvirtOf(living, known, tgid),
  });

  return {
    name: 'vdisks',
    read: turns.follow,
    samples: living => driveSamples(turns.of(living)),
    host: turns.unknown,
    lost: () =>
      ({ unanswered: turns.unanswered(), too_many_drives: tooManyDrives }) satisfies Record<
        Loss<'vdisks'>,
        number
      >,
    forget: () => undefined,
    stop: () => {
      turns.stop();
      libvirt.stop();
      ended.abort();
    },
  };
}

function newMachine(): Machine {
  return { since: null, startTicks: 0, drives: new Map(), untold: new Set() };
}

/** Another QEMU in the same life counts from zero, be it more by now than the one before had counted. */
function beginAnew(machine: Machine, startTicks: number): void {
  machine.startTicks = startTicks;
  machine.untold = new Set();
  for (const drive of machine.drives.values()) drive.last = noCounts;
}

const none: DriveCounters = { bytes: 0, operations: 0, timeNs: 0 };
const noCounts: Counts = { read: none, write: none, flush: none, discard: none };

/** A drive that was taken out and put in counts from zero again: then all of it is new. */
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
