import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import type { AgentSettings } from '../contract/agent-settings.ts';
import { settingsOf } from '../contract/change-settings.ts';
import type { AgentConfig } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import { attr, scopes } from '../contract/metrics.ts';
import type { Clock, Running, Say } from '../contract/ports.ts';
import { createBpfAccount } from '../linux/bpf-account.ts';
import { readCgroupLayout } from '../linux/cgroups.ts';
import { findMemoryHierarchy } from '../linux/memory.ts';
import { findNarrowing, howToSeeAll } from '../linux/namespaces.ts';
import type { Native } from '../linux/native.ts';
import type { Roots } from '../linux/roots.ts';
import { createEventsExporter, type EventsExporter } from '../otlp/events-exporter.ts';
import { createMetricsExporter } from '../otlp/metrics-exporter.ts';
import { createOutbox } from '../otlp/outbox.ts';
import { ownTemporality } from '../otlp/temporality.ts';
import { createArrivalWatch } from './arrival-watch.ts';
import { createClockWatch } from './clock-watch.ts';
import { keepScheduler } from './cpu/keep-scheduler.ts';
import { atItsPace, tellsOfWholeTasks } from './cpu/scheduler.ts';
import { type CustomSource, startCustomSource } from './custom/custom-source.ts';
import { createLiveConfig, readingSeconds } from './live-config.ts';
import type { ProfileSink } from './profiles/profile-sink.ts';
import { createProfiles, type Profiles } from './profiles/profiles.ts';
import { createReadingClock } from './reading-clock.ts';
import { createRounds } from './rounds.ts';
import { createCostSource } from './sources/cost-source.ts';
import type { SourceContext } from './sources/source.ts';
import { sourceKinds, startSources } from './sources/sources.ts';
import { createHotTasks } from './tasks/hot-tasks.ts';
import { createLastRuns } from './tasks/last-runs.ts';
import { createTaskStarts } from './tasks/task-starts.ts';
import { createVcpuBook } from './vms/vcpus.ts';

export type AgentOptions = {
  /** As it is at the start; its settings can be changed later. */
  readonly config: AgentConfig;
  readonly native: Native;
  readonly roots: Roots;
  readonly hostId: string;
  /** Absent: nothing listens for guests. */
  readonly guests?: SourceContext['guests'];
  readonly clock: Clock;
  readonly say: Say;
  /** Where profiles are written to: of every instance with each export of details. */
  readonly profileSink?: ProfileSink;
};

export type AgentStatus = {
  readonly uptimeSeconds: number;
  readonly instances: number;
  readonly contended: string[];
  /** Contended instances past `fastInstances`. */
  readonly uncounted: number;
  /** Null where they are not counted. */
  readonly events: number | null;
  readonly lost: Readonly<Record<string, number>>;
  readonly exports: {
    readonly delivered: number;
    readonly lost: Readonly<Record<string, number>>;
    readonly lastFailure: string | null;
  };
  readonly map: {
    readonly entries: number;
    readonly maxEntries: number;
  };
  /** `bpfBytes`: null where the kernel does not tell. */
  readonly memory: { readonly rssBytes: number; readonly bpfBytes: number | null };
  /** By name: `running`, or why it is not. */
  readonly sources: Readonly<Record<string, string>>;
  /** By file: `running`, or why it is not. */
  readonly customProbes: Readonly<Record<string, string>>;
  readonly collectSeconds: number;
};

export type Agent = Running & {
  readonly status: () => AgentStatus;
  /** What holds now. */
  readonly settings: () => AgentSettings;
  /** Holds from now on. Nothing that goes on loses a count, or begins anew. */
  readonly change: (settings: AgentSettings) => void;
  readonly profiles: Pick<Profiles, 'all' | 'of'>;
};

/**
 * Reads the probes and tells what they say: headline series, details, placements, topology. It stops at nothing that
 * happens to the host or to the pipeline; only what it needs to begin is fatal.
 * @throws ConfigError as `keepScheduler`, KernelInterfaceError as `readCgroupLayout`
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { roots, hostId, clock, say, profileSink } = options;
  const account = createBpfAccount(options.native);
  const { native } = account;
  const { driver } = options.config;
  const { config, selection, change } = createLiveConfig(atItsPace(driver, options.config));
  const began = clock.monotonicSeconds();
  const readingClock = createReadingClock(clock);
  const layout = readCgroupLayout(roots);
  const narrowing = findNarrowing(roots, layout);
  if (narrowing)
    say(
      'warn',
      `agent: it runs in a container (${narrowing.found}): ${narrowing.lost}; ${howToSeeAll}`,
    );
  const scheduler = await keepScheduler({ ...options, config, native, layout });
  const { probe, runByCpu } = scheduler;
  const hot = createHotTasks(
    config,
    createTaskStarts(roots, () => (tellsOfWholeTasks(driver) ? 0 : scheduler.since())),
  );
  const vcpus = createVcpuBook({
    roots,
    layout,
    intervalSeconds: config.placementIntervalSeconds,
    clock,
    say,
  });
  const guests = options.guests ?? (() => null);
  const events = createEventsExporter({
    endpoint: config.endpoint,
    scope: scopes.agent,
    resource: { [attr.serviceName]: 'sculptor-agent', [attr.hostId]: hostId },
    clock,
  });
  const context: SourceContext = {
    config,
    native,
    bpftrace: driver === 'bpftrace' ? await loadBpftrace(options) : null,
    roots,
    layout,
    runByCpu,
    vcpus,
    guests,
    hostId,
    emit: events.emit,
    clock: readingClock,
    say,
  };
  const lastRuns = createLastRuns(2 * config.placementIntervalSeconds);
  const sched = scheduler.source({
    hottest: changed => hot.take(changed, vcpus.all()),
    ran: changed => lastRuns.take(changed, clock.monotonicSeconds()),
  });
  const custom = await startCustomProbes(options, () => config.detailIntervalSeconds / 2);
  const cost = createCostSource({
    account,
    own: process,
    start: clock.unixSeconds() - process.uptime(),
  });
  const own = custom ? [sched, cost, custom] : [sched, cost];
  const sources = startSources(sourceKinds, context, own, selection);
  const profiles = createProfiles(hostId, config);
  const temporal = ownTemporality();
  const outbox = createOutbox(createMetricsExporter({ endpoint: config.endpoint }), temporal);
  let failedReads = 0;
  const exportsLost = () => eventsLost(events);
  const rounds = createRounds({
    config,
    selection: {
      ...selection,
      tells: metric => !scheduler.untold.has(metric) && selection.tells(metric),
    },
    identity: { hostId, hostName: hostname() },
    reader: {
      roots,
      layout,
      hostId,
      systemd: existsSync('/run/systemd/system'),
      memory: findMemoryHierarchy(roots),
      maskedThreads: scheduler.maskedThreads,
    },
    probe,
    hot,
    runsSince: lastRuns.since,
    sources,
    headline: scheduler.headline,
    ownHeadline: living => custom?.headline(living) ?? [],
    vcpus,
    outbox,
    temporal,
    takeDetails: time => {
      const { add, end } = profiles.begin(time);
      return {
        add,
        end: () => {
          end();
          profileSink?.write(profiles.all());
        },
      };
    },
    profilesLost: () => profileSink?.lost() ?? {},
    emit: events.emit,
    exportsLost,
    failedReads: () => failedReads,
    clock: readingClock,
    say,
    native,
  });
  const watchClock = createClockWatch(clock, say);
  const lastFailure = () => outbox.lastFailure() ?? events.lastFailure();
  const { endpoint } = config;
  const watchArrival = createArrivalWatch({ endpoint, lastFailure, clock, say });
  const guarded = (): void => {
    watchClock();
    watchArrival();
    try {
      readingClock.during(rounds.tick);
    } catch (error) {
      failedReads += 1;
      // Said now and then, not five times a second.
      if (failedReads % 50 === 1)
        say(
          'error',
          `agent: reading failed (${failedReads} times so far): ${describeError(error)}`,
        );
    }
  };
  guarded();
  let cancel = clock.every(readingSeconds(config), guarded);
  say(
    'info',
    `agent: cgroup v${layout.version}, reading every ${readingSeconds(config)} s, telling ${config.endpoint}`,
  );

  return {
    status: () => {
      const { events: seen, entries } = probe.counters();
      return {
        ...rounds.status(),
        sources: sources.status(),
        customProbes: custom?.status() ?? {},
        uptimeSeconds: clock.monotonicSeconds() - began,
        events: seen,
        exports: {
          delivered: outbox.delivered(),
          lost: { ...outbox.lost(), ...exportsLost() },
          lastFailure: lastFailure(),
        },
        map: { entries, maxEntries: config.maxInstances },
        memory: {
          rssBytes: process.memoryUsage.rss(),
          bpfBytes: account.cost()?.memoryBytes ?? null,
        },
      };
    },
    settings: () => settingsOf(config),
    change: settings => {
      const every = readingSeconds(config);
      change(atItsPace(driver, settings));
      sources.follow();
      if (every === readingSeconds(config)) return;
      cancel();
      cancel = clock.every(readingSeconds(config), guarded);
    },
    profiles,
    stop: async () => {
      cancel();
      await outbox.stop();
      await events.stop();
      await custom?.stop();
      rounds.stop();
      await sources.stop();
      await scheduler.stop();
    },
  };
}

/** Null where the configuration names no folder of them. */
async function startCustomProbes(
  options: AgentOptions,
  printIntervalSeconds: () => number,
): Promise<CustomSource | null> {
  const { roots, clock, say } = options;
  const { customProbes } = options.config;
  const { directory } = customProbes;
  if (directory === undefined) return null;
  const run = await loadBpftrace(options);
  const config = { ...customProbes, directory };
  return startCustomSource({ config, printIntervalSeconds, run, roots, clock, say });
}

/** Its libraries are held in memory by those alone who have something that it runs. */
async function loadBpftrace({ config, roots }: Pick<AgentOptions, 'config' | 'roots'>) {
  const { bpftraceOf } = await import('./bpftrace/run.ts');
  return bpftraceOf(config.btf, roots);
}

/** Events that were given up, by reason. */
function eventsLost(events: EventsExporter): Record<string, number> {
  const lost = Object.entries(events.counters()).filter(([count]) => count.startsWith('lost.'));
  return Object.fromEntries(
    lost.map(([count, value]) => [
      `event_${count.slice('lost.'.length).replaceAll('-', '_')}`,
      value,
    ]),
  );
}
