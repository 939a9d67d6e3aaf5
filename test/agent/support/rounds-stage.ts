import { statSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { headlineSamples } from '../../../src/agent/cpu/samples.ts';
import { createSchedSource } from '../../../src/agent/cpu/sched-source.ts';
import { emptyTotals } from '../../../src/agent/instances/add-change.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { createLiveConfig, readingSeconds } from '../../../src/agent/live-config.ts';
import type { SchedTotals, TaskTotals } from '../../../src/agent/probes/sched-layout.ts';
import { createProfiles } from '../../../src/agent/profiles/profiles.ts';
import { createRounds } from '../../../src/agent/rounds.ts';
import type { SourceKind } from '../../../src/agent/sources/source.ts';
import { startSources } from '../../../src/agent/sources/sources.ts';
import { createHotTasks } from '../../../src/agent/tasks/hot-tasks.ts';
import { createLastRuns } from '../../../src/agent/tasks/last-runs.ts';
import { createTaskStarts } from '../../../src/agent/tasks/task-starts.ts';
import { createVcpuBook } from '../../../src/agent/vms/vcpus.ts';
import { createSteadyTime } from '../../../src/cli/steady-time.ts';
import type { AgentSettings } from '../../../src/contract/agent-settings.ts';
import { settingsOf } from '../../../src/contract/change-settings.ts';
import { agentConfigSchema } from '../../../src/contract/config.ts';
import { detailAttribute, type OutgoingEvent } from '../../../src/contract/events.ts';
import { type Placement, placementSchema, topologySchema } from '../../../src/contract/host.ts';
import type { ResourcePoints } from '../../../src/contract/telemetry.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { findMemoryHierarchy } from '../../../src/linux/memory.ts';
import { loadNative, type Native } from '../../../src/linux/native.ts';
import { decodeMetrics } from '../../../src/otlp/decode-metrics.ts';
import { createOutbox } from '../../../src/otlp/outbox.ts';
import type { Sample } from '../../../src/otlp/sample.ts';
import { temporalityFrom } from '../../../src/otlp/temporality.ts';
import { makeTree, mounts } from '../../linux/tree.ts';
import { steppedClock } from '../../support/stepped-clock.ts';
import { changedTask } from './changed-task.ts';

const noPairs = { forEach: () => undefined };

type Load = { used: number; wait: number };

/** An agent without a kernel: cgroups are folders, the probe says what the test wants, time is stepped. */
export function stageRounds(
  t: ExecutionContext,
  options: {
    temporality?: string;
    config?: object;
    kinds?: SourceKind[];
    ownHeadline?: (living: LivingInstance) => Sample[];
    maskedThreads?: () => ReadonlySet<number> | null;
    native?: Pick<Native, 'openFolderWatch'>;
    /** What each export takes; absent: it ends before the next reading. */
    exportSeconds?: number;
    /** The kernel refused it: nobody knows who ran. */
    withoutScheduler?: true;
    /** Of the host from the beginning. */
    files?: Record<string, string>;
  } = {},
) {
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'proc/stat': 'cpu0 1 1 1 500 0 0 0 50\nbtime 1600000000',
    'cgroup/cgroup.controllers': 'cpu cpuset',
    'cgroup/cpuset.cpus.effective': '0-1',
    'sys/devices/system/cpu/online': '0-1',
    'sys/devices/system/cpu/present': '0-1',
    ...options.files,
  });
  const machine = steppedClock();
  const clock = { ...machine, unixSeconds: createSteadyTime(machine) };
  const live = createLiveConfig(agentConfigSchema.parse(options.config ?? {}));
  const { config } = live;
  const totals = new Map<number, SchedTotals>();
  const loads = new Map<number, Load>();
  const forgotten: number[] = [];
  const said: string[] = [];
  const events: OutgoingEvent[] = [];
  const exports: { at: number; resources: ResourcePoints[] }[] = [];
  let tasks: (TaskTotals & { cpu?: number })[] = [];
  let fails = false;
  let listener: (event: OutgoingEvent) => void = () => undefined;
  const temporal = temporalityFrom(options.temporality);
  const began = clock.unixSeconds();
  const hot = createHotTasks(
    config,
    createTaskStarts(tree, () => began),
  );
  const lastRuns = createLastRuns(120);
  const vcpus = createVcpuBook({
    roots: tree,
    layout: readCgroupLayout(tree),
    intervalSeconds: 60,
    clock,
    say: () => undefined,
  });
  const sched = createSchedSource({
    probe: {
      readDetails: () => ({
        instances: new Map(),
        pairs: noPairs,
        tasks: tasks.map(task => changedTask(task, task.cpu)),
      }),
      detailsOf: () => new Map(),
      takePairs: () => noPairs,
      readWaitByCpu: cpus => cpus.map(() => 2e9),
    },
    now: clock.unixSeconds,
    cpus: () => [0, 1],
    hottest: changed => {
      lastRuns.take(changed, clock.monotonicSeconds());
      return hot.take(changed, vcpus.all());
    },
  });
  const profiles = createProfiles('h', config);
  const outbox = createOutbox(
    {
      export: async written => {
        const parts = [...written].map(part => Buffer.from(part));
        const resources = decodeMetrics(Buffer.concat(parts));
        exports.push({ at: clock.monotonicSeconds(), resources });
        const { exportSeconds } = options;
        if (exportSeconds) await new Promise<void>(end => clock.after(exportSeconds, end));
        return fails
          ? { ok: false, why: 'failed', reason: 'down', untaken: [...parts.keys()] }
          : { ok: true };
      },
      stop: async () => undefined,
    },
    temporal,
  );
  const rounds = createRounds({
    config,
    selection: live.selection,
    identity: { hostId: 'h', hostName: 'host' },
    reader: {
      roots: tree,
      layout: readCgroupLayout(tree),
      hostId: 'h',
      systemd: false,
      memory: findMemoryHierarchy(tree),
      maskedThreads: options.maskedThreads ?? (() => null),
    },
    headline: headlineSamples,
    probe: {
      readTotals: () => {
        for (const [id, { used, wait }] of loads) {
          const last = totals.get(id) ?? emptyTotals();
          const ns = 1e9 * readingSeconds(config);
          totals.set(id, {
            ...last,
            runNs: last.runNs + used * ns,
            waitNs: last.waitNs + wait * ns,
          });
        }
        return new Map(totals);
      },
      forget: ids => {
        forgotten.push(...ids);
        for (const id of ids) totals.delete(id);
      },
      counters: () => ({
        events: 42,
        recovered: 7,
        lost: {
          task_storage: 0,
          instance_map_full: 3,
          instance_memory: 0,
          pair: 0,
          unseen_switch: 0,
          withheld_switch: 0,
          recursion: 0,
          sched_failed_reads: 0,
        },
        entries: totals.size,
      }),
    },
    hot,
    runsSince: lastRuns.since,
    sources: startSources(
      options.kinds ?? [],
      {
        config,
        native: {} as Native,
        bpftrace: null,
        roots: tree,
        layout: readCgroupLayout(tree),
        runByCpu: () => new Map(),
        vcpus,
        guests: () => null,
        hostId: 'h',
        emit: () => undefined,
        clock,
        say: () => undefined,
      },
      options.withoutScheduler ? [] : [sched],
      live.selection,
    ),
    ownHeadline: options.ownHeadline ?? (() => []),
    vcpus,
    outbox,
    temporal,
    takeDetails: profiles.begin,
    profilesLost: () => ({}),
    emit: event => {
      events.push(event);
      listener(event);
    },
    exportsLost: () => ({}),
    failedReads: () => 0,
    clock,
    say: (_, message) => said.push(message),
    native: options.native ?? loadNative(),
  });
  const valuesOf = (metric: string, instance: string) =>
    exports.flatMap(({ at, resources }) =>
      resources
        .filter(each => each.resource['sculptor.instance.id'] === instance)
        .flatMap(({ points }) => points.filter(point => point.metric === metric))
        .map(point => ({ at, ...point })),
    );
  return {
    tree,
    clock,
    /** Each event is also given to it. */
    listen: (to: (event: OutgoingEvent) => void) => {
      listener = to;
    },
    exports,
    forgotten,
    said,
    rounds,
    outbox,
    profiles,
    change: (settings: Partial<AgentSettings>) =>
      live.change({ ...settingsOf(config), ...settings }),
    valuesOf,
    setFails: (now: boolean) => {
      fails = now;
    },
    /** `cpu`: where it ran last. */
    setTasks: (now: (TaskTotals & { cpu?: number })[]) => {
      tasks = now;
    },
    /** A cgroup with one task, which is loaded from now on. */
    add: (
      path: string,
      load: Load = { used: 0.1, wait: 0 },
      files: Record<string, string> = {},
    ) => {
      tree.write({ [`cgroup${path}/cpu.weight`]: '100', ...files });
      const id = statSync(`${tree.cgroup}${path}`).ino;
      loads.set(id, load);
      return id;
    },
    /** Null: none, and where its key was given back the probe has none of it. */
    setLoad: (id: number, load: Load | null) => {
      if (load) loads.set(id, load);
      else loads.delete(id);
    },
    remove: (path: string) => {
      loads.delete(statSync(`${tree.cgroup}${path}`).ino);
      tree.remove(`cgroup${path}`);
    },
    /** So many readings, 0.2 s apart unless configured otherwise, each export having ended before the next. */
    read: async (times: number) => {
      for (let i = 0; i < times; i += 1) {
        rounds.tick();
        clock.step(readingSeconds(config));
        await new Promise(resolve => setImmediate(resolve));
      }
    },
    placements: (instance: string): Placement[] =>
      events.flatMap(event => {
        if (event.eventName !== 'sculptor.placement') return [];
        const placement = placementSchema.parse(event.attributes[detailAttribute]);
        return placement.instance.id === instance ? [placement] : [];
      }),
    topologies: () =>
      events.flatMap(event =>
        event.eventName === 'sculptor.topology'
          ? [topologySchema.parse(event.attributes[detailAttribute])]
          : [],
      ),
  };
}
