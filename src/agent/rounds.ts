import type { AgentConfig } from '../contract/config.ts';
import type { OutgoingEvent } from '../contract/events.ts';
import { attr } from '../contract/metrics.ts';
import type { Clock, Say } from '../contract/ports.ts';
import type { Native } from '../linux/native.ts';
import type { PlacementReader } from '../linux/placement.ts';
import { readBootTime, readCpuTimes } from '../linux/procfs.ts';
import type { Outbox } from '../otlp/outbox.ts';
import type { Sample } from '../otlp/sample.ts';
import type { Temporal } from '../otlp/temporality.ts';
import { createCpuSamples } from './cpu/samples.ts';
import { createTopologyTeller, placementEvent } from './host-events.ts';
import { createCgroupChanges } from './instances/cgroup-changes.ts';
import { contended } from './instances/contended.ts';
import { createFarewells } from './instances/farewells.ts';
import { createInstanceBook, type LivingInstance } from './instances/instances.ts';
import { createPlacements, type Suspects } from './instances/placements.ts';
import { createSuspectFinder } from './instances/suspects.ts';
import { createToldResources } from './instances/told-resources.ts';
import { readingSeconds, type Selection } from './live-config.ts';
import type { TotalsReader } from './probes/sched.ts';
import type { SchedTotals } from './probes/sched-layout.ts';
import type { DetailReading } from './profiles/profiles.ts';
import { type Identity, instanceResource } from './resources.ts';
import { selfSamples } from './self.ts';
import type { Sources } from './sources/sources.ts';
import type { HotTasks } from './tasks/hot-tasks.ts';
import type { LastRuns } from './tasks/last-runs.ts';
import { createTaskKeeper } from './tasks/task-keeper.ts';
import type { VcpuBook } from './vms/vcpus.ts';
import { createVmFinder } from './vms/vm-finder.ts';

export type RoundsOptions = {
  /** Its settings change while the agent runs. */
  readonly config: AgentConfig;
  readonly selection: Pick<Selection, 'tells'>;
  readonly identity: Identity;
  readonly reader: PlacementReader;
  readonly probe: TotalsReader;
  readonly hot: Pick<HotTasks, 'of'>;
  readonly runsSince: LastRuns['since'];
  readonly sources: Sources;
  /** The headline series of the scheduler. */
  readonly headline: (living: LivingInstance) => Sample[];
  /** A user's own headline series: told with the others between two exports of details, which have it too. */
  readonly ownHeadline: (living: LivingInstance) => readonly Sample[];
  readonly vcpus: VcpuBook;
  readonly outbox: Outbox;
  readonly temporal: Temporal;
  /** Gets what each export of details has; `time`: seconds since the epoch. */
  readonly takeDetails: (time: number) => DetailReading;
  /** Profiles that could not be written, by reason. */
  readonly profilesLost: () => Readonly<Record<string, number>>;
  readonly emit: (event: OutgoingEvent) => void;
  /** What else was lost, by reason: of exports and events. */
  readonly exportsLost: () => Readonly<Record<string, number>>;
  /** Ticks that threw. */
  readonly failedReads: () => number;
  readonly clock: Clock;
  readonly say: Say;
  readonly native: Pick<Native, 'openFolderWatch'>;
};

export type Rounds = {
  /** Reads the kernel once, and tells what is due. */
  readonly tick: () => void;
  readonly stop: () => void;
  readonly status: () => {
    instances: number;
    contended: string[];
    uncounted: number;
    lost: Readonly<Record<string, number>>;
    collectSeconds: number;
  };
};

type Told = Readonly<Record<'leaving' | 'living', readonly LivingInstance[]>> & {
  readonly host: readonly Sample[];
};

const idOf = ({ instance }: LivingInstance): string => instance.id;

/** One reading after another: totals into series, changes into events. Reads nothing but through `reader`, `probe` and `sources`. */
export function createRounds(options: RoundsOptions): Rounds {
  const { config, selection, identity, reader, probe, hot } = options;
  const { sources, vcpus, outbox, temporal, emit, clock } = options;
  const { roots, layout } = reader;
  const began = clock.unixSeconds();
  const booted = readBootTime(roots) ?? began;
  const book = createInstanceBook(layout);
  const changes = createCgroupChanges({ ...options, layout });
  const finder = createSuspectFinder({ book, changes });
  const vms = createVmFinder({ ...reader, ...options, book });
  const placements = createPlacements({
    ...reader,
    intervalSeconds: config.placementIntervalSeconds,
    hotTids: living => hot.of(living.members),
    runsSince: options.runsSince,
    vcpusOf: vcpus.of,
    changes,
  });
  const topology = createTopologyTeller(roots, identity.hostId, config.placementIntervalSeconds);
  const start = clock.monotonicSeconds();
  const last = {
    read: start,
    readAt: began,
    look: Number.NEGATIVE_INFINITY,
    headline: Number.NEGATIVE_INFINITY,
    detail: start,
    missed: Number.NEGATIVE_INFINITY,
  };
  const farewells = createFarewells(living =>
    temporal.forget(`${instanceResource(identity, living)[attr.serviceInstanceId]}\n`),
  );
  const keepLivingTasks = createTaskKeeper(roots, temporal, start);
  const cpuSamples = createCpuSamples();
  const told = createToldResources({ identity, temporal, resolution: () => config.histograms });
  const totals = new Map<number, SchedTotals>();
  let hottest: LivingInstance[] = [];
  let uncounted = 0;
  /** Instances have begun since placements were told. */
  let isNews = true;
  let collectSeconds = 0;

  /** What an instance is now: itself, the VM that it became a part of, or nothing. */
  const present = (living: LivingInstance): LivingInstance | undefined => {
    const [id] = living.members.keys();
    return id === undefined ? undefined : book.of(id);
  };

  const lost = (): Record<string, number> => ({
    ...probe.counters().lost,
    ...sources.lost(),
    instance_unnamed: book.unnamed(),
    failed_reads: options.failedReads(),
  });

  const end = (ended: readonly LivingInstance[]): void => {
    // The place of one that is superseded ends before that of the next one begins; its totals are told when they are all there.
    const left = placements.ended([...book.superseded(), ...ended]);
    for (const placement of left) emit(placementEvent(placement));
    farewells.add(ended);
  };

  /** QEMU makes its cgroup and all below it one instance: judged at birth, and again when its threads are seen there, or none of them. */
  const recognise = (candidates: readonly LivingInstance[], time: number): void => {
    for (const living of candidates) {
      if (present(living) !== living) continue;
      const vm = vms.find(living);
      if (!vm && !vms.hasLeft(living)) continue;
      if (vm?.left) end(book.endVm(vm.left, time));
      end(vm ? book.becomeVm(living, vm, time) : book.endVm(living, time));
      isNews = true;
    }
  };

  const read = (now: number, time: number): LivingInstance[] => {
    const elapsed = Math.max(now - last.read, readingSeconds(config) / 2);
    const born = book.take(probe.readTotals(totals), last.readAt, elapsed);
    isNews ||= born.length > 0;
    [last.read, last.readAt] = [now, time];
    recognise(born, time);
    const { gone, ended } = book.retire();
    if (gone.size > 0) {
      sources.forget(gone);
      probe.forget([...gone.keys()]);
    }
    end(ended);
    ({ fast: hottest, uncounted } = contended(book.living(), config.fastInstances));
    return born.flatMap(living => present(living) ?? []);
  };

  const tellPlacements = (suspects: Suspects, now: number, time: number): void => {
    // To look who is new takes a look at all: five times a second that is worth something.
    const { given, byTurns } = suspects;
    if (!isNews && given.length + byTurns.length === 0 && !placements.isDue(now)) return;
    isNews = false;
    const due = placements.due(book.living(), suspects, now);
    recognise(
      due.flatMap(one => (vms.isCandidate(one.living, one.placement.tasks) ? one.living : [])),
      time,
    );
    for (const { living, placement } of due) {
      if (present(living) === living) emit(placementEvent(placement));
      // It is part of a VM from the beginning.
      else placements.ended([living]);
    }
  };

  const look = (now: number): Suspects => {
    last.look = now;
    const told = topology(now);
    if (told) emit(told.event);
    // Those that are told still were told with the last details.
    const since = clock.unixSeconds() - 2 * config.detailIntervalSeconds;
    keepLivingTasks(now, config.placementIntervalSeconds, since);
    return finder.look(hottest, told?.changed === true);
  };

  const collect = (
    due: { headline: boolean; detail: boolean },
    born: readonly LivingInstance[],
    time: number,
  ): Iterable<Uint8Array> | null => {
    const leaving = farewells.take(outbox.hasArrived());
    if (due.detail) sources.read([...book.living(), ...book.superseded()]);
    // The points of two lives under one id are one series: those of the second come after all of the first.
    const before = new Set([...book.superseded(), ...farewells.waiting()].map(idOf));
    const all = due.headline ? book.living() : new Set([...hottest, ...born]);
    const living = [...all].filter(one => !before.has(idOf(one)));
    const host: Sample[] = due.headline ? cpuSamples(readCpuTimes(roots), booted) : [];
    if (due.detail) {
      host.push(...selected(sources.host(began)));
      host.push(...selfSamples(selfCounts(), began));
    }
    if (leaving.length + living.length + host.length === 0) return null;
    return tellAll({ leaving, living, host }, due.detail, time);
  };

  const selected = (samples: readonly Sample[]): Sample[] =>
    samples.filter(sample => selection.tells(sample.metric));

  /** What is told of an instance is made when its turn has come: it is garbage when the next one is told. */
  function* tellAll(
    { leaving, living, host }: Told,
    detail: boolean,
    time: number,
  ): Iterable<Uint8Array> {
    const reading = detail ? options.takeDetails(time) : null;
    for (const one of leaving)
      yield* told
        .of(one)
        .detail(selected([...options.headline(one), ...sources.samples(one)]), time);
    for (const one of living) {
      const samples = selected(options.headline(one));
      if (!reading) samples.push(...selected(options.ownHeadline(one)));
      else {
        for (const sample of sources.samples(one))
          if (selection.tells(sample.metric)) samples.push(sample);
        reading.add(one, samples);
      }
      yield* told.of(one)[detail ? 'detail' : 'headline'](samples, time);
    }
    if (host.length > 0) yield* told.host[detail ? 'detail' : 'headline'](host, time);
    reading?.end();
  }

  const selfCounts = () => ({
    ...probe.counters(),
    lost: lost(),
    exportsLost: { ...outbox.lost(), ...options.exportsLost() },
    profilesLost: options.profilesLost(),
    uncounted,
    vcpusUnknown: vcpus.unknown(),
    vmsUnknown: vms.unknown(book.living()),
    collectSeconds,
  });

  const tick = (): void => {
    const began = performance.now();
    const now = clock.monotonicSeconds();
    const time = clock.unixSeconds();
    // A timer that fires a little early must not skip a whole interval.
    const dueSince = (at: number, interval: number) =>
      now - at >= interval - readingSeconds(config) / 2;
    const born = read(now, time);
    const { given, byTurns } = dueSince(last.look, config.headlineIntervalSeconds)
      ? look(now)
      : { given: [], byTurns: [] };
    const machines = [...book.living()].filter(living => living.instance.kind === 'vm');
    tellPlacements({ given: [...given, ...vcpus.look(machines, now)], byTurns }, now, time);
    const detail = dueSince(last.detail, config.detailIntervalSeconds);
    // A profile has the headline series of its own reading.
    const headline = detail || dueSince(last.headline, config.headlineIntervalSeconds);
    // What is due and cannot be sent, since an export is under way, is due again with the next reading, and was missed once.
    const misses =
      (headline && dueSince(last.missed, config.headlineIntervalSeconds)) ||
      hottest.length + born.length > 0;
    const isSent = outbox.send(() => collect({ headline, detail }, born, time), misses);
    if (headline && (isSent || misses)) last.missed = now;
    if (headline && isSent) last.headline = now;
    if (detail && isSent) last.detail = now;
    collectSeconds += (performance.now() - began) / 1000;
  };

  return {
    tick,
    stop: changes.stop,
    status: () => ({
      instances: book.size(),
      contended: hottest.map(living => living.instance.id),
      uncounted,
      lost: lost(),
      collectSeconds,
    }),
  };
}
