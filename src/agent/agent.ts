import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import type { AgentConfig } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import type { OutgoingEvent } from '../contract/events.ts';
import type { Topology } from '../contract/host.ts';
import { attr, scopes } from '../contract/metrics.ts';
import type { Clock, Running, Say } from '../contract/ports.ts';
import { readCgroupLayout } from '../linux/cgroups.ts';
import type { Native } from '../linux/native.ts';
import { openOwnMasks } from '../linux/own-masks.ts';
import { readCpuTimes } from '../linux/procfs.ts';
import type { Roots } from '../linux/roots.ts';
import { readTopology } from '../linux/topology.ts';
import { createEventsExporter } from '../otlp/events-exporter.ts';
import { createMetricsExporter } from '../otlp/metrics-exporter.ts';
import { plainEvent } from '../otlp/plain-event.ts';
import { createHotTasks } from './hot-tasks.ts';
import { contended, createInstanceBook, type LivingInstance } from './instances.ts';
import { resourceMetrics, type Sample } from './metric-data.ts';
import { createOutbox } from './outbox.ts';
import { createPlacements } from './placements.ts';
import { startSchedProbe } from './probes/sched.ts';
import {
  cpuSamples,
  detailSamples,
  headlineSamples,
  hostResource,
  type Identity,
  instanceResource,
  taskSamples,
} from './samples.ts';
import { selfSamples } from './self.ts';
import { temporalityFrom } from './temporality.ts';

export type AgentOptions = {
  readonly config: AgentConfig;
  readonly native: Native;
  readonly roots: Roots;
  readonly hostId: string;
  readonly clock: Clock;
  readonly say: Say;
};

export type AgentStatus = {
  readonly instances: number;
  readonly contended: string[];
  readonly events: number;
  readonly lost: Readonly<Record<string, number>>;
  readonly exports: {
    readonly delivered: number;
    readonly lost: Readonly<Record<string, number>>;
    readonly lastFailure: string | null;
  };
  readonly mapMemoryBytes: number;
  readonly collectSeconds: number;
};

export type Agent = Running & { readonly status: () => AgentStatus };

/**
 * Reads the probes and tells what they say: headline series, details, placements, topology. It stops at nothing that
 * happens to the host; only what it needs to begin is fatal.
 * @throws ProbeError, KernelInterfaceError as `startSchedProbe` and `readCgroupLayout`
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { config, native, roots, hostId, clock, say } = options;
  const identity: Identity = { hostId, hostName: hostname() };
  const layout = readCgroupLayout(roots);
  const probe = startSchedProbe({
    native,
    cgroupV1: layout.version === 1,
    maxInstances: config.maxInstances,
  });
  const masks = openOwnMasks(native);
  const book = createInstanceBook(layout);
  const hot = createHotTasks(config.hotTasks);
  const reader = {
    roots,
    layout,
    hostId,
    systemd: existsSync('/run/systemd/system'),
    ownMasks: masks.read,
  };
  const placements = createPlacements(reader, config.placementIntervalSeconds, hot.of);
  const temporal = temporalityFrom(
    process.env['OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE'],
  );
  const events = createEventsExporter({
    endpoint: config.endpoint,
    scope: scopes.agent,
    resource: { [attr.serviceName]: 'sculptor-agent', [attr.hostId]: hostId },
    clock,
  });
  const outbox = createOutbox(createMetricsExporter({ endpoint: config.endpoint }), temporal);

  const began = clock.unixSeconds();
  const last = {
    read: clock.monotonicSeconds(),
    headline: -1e9,
    detail: clock.monotonicSeconds(),
    topology: '',
    toldTopology: -1e9,
  };
  let collectSeconds = 0;
  let hottest: string[] = [];
  let uncounted = 0;

  const tellTopology = (now: number): void => {
    const topology = readTopology(roots, hostId);
    const digest = topologyDigest(topology);
    if (digest === last.topology && now - last.toldTopology < config.placementIntervalSeconds)
      return;
    [last.topology, last.toldTopology] = [digest, now];
    events.emit(topologyEvent(topology));
  };

  const lost = (): Record<string, number> => ({
    ...probe.counters().lost,
    instance_unnamed: book.unnamed(),
  });

  const tick = (): void => {
    const now = clock.monotonicSeconds();
    const elapsed = now - last.read;
    if (elapsed <= 0) return;
    last.read = now;
    const collecting = performance.now();
    const time = clock.unixSeconds();
    const born = book.take(probe.readTotals(), elapsed, time);
    const { fast, uncounted: rest } = contended(book.living(), config.fastInstances);
    [hottest, uncounted] = [fast.map(living => living.instance.id), rest];

    // A timer that fires a little early must not skip a whole interval.
    const early = config.readIntervalSeconds / 2;
    const headline = now - last.headline >= config.headlineIntervalSeconds - early;
    const detail = now - last.detail >= config.detailIntervalSeconds - early;
    if (headline) tellTopology(now);
    for (const placement of placements.due(book.living(), headline ? fast : [], now))
      events.emit(placementEvent(placement));
    const samples = new Map<LivingInstance, Sample[]>();
    for (const living of headline ? book.living() : new Set([...fast, ...born]))
      samples.set(living, headlineSamples(living));
    const host: Sample[] = headline ? cpuSamples(readCpuTimes(roots), began) : [];
    if (detail) addDetails(samples, host);
    collectSeconds += (performance.now() - collecting) / 1000;
    outbox.send([
      ...[...samples].map(([living, list]) =>
        resourceMetrics(instanceResource(identity, living), list, time, temporal),
      ),
      ...(host.length > 0 ? [resourceMetrics(hostResource(identity), host, time, temporal)] : []),
    ]);
    if (headline) {
      last.headline = now;
      sweep();
    }
    if (detail) last.detail = now;
  };

  const addDetails = (samples: Map<LivingInstance, Sample[]>, host: Sample[]): void => {
    const byCgroup = new Map([...book.living()].map(living => [living.cgroupId, living]));
    const add = (living: LivingInstance, more: Sample[]) =>
      samples.set(living, [...(samples.get(living) ?? []), ...more]);
    for (const living of byCgroup.values()) add(living, detailSamples(living, config.histograms));
    for (const task of hot.take(probe.readTasks(), clock.unixSeconds())) {
      const living = byCgroup.get(task.cgroupId);
      if (living) add(living, taskSamples(task));
    }
    const self = {
      events: probe.counters().events,
      lost: lost(),
      exportsLost: outbox.lost(),
      uncounted,
      collectSeconds,
    };
    host.push(...selfSamples({ ...self, entries: book.size() }, began));
  };

  const sweep = (): void => {
    const gone = book.sweep();
    if (gone.length === 0) return;
    probe.forget(gone.map(living => living.cgroupId));
    for (const living of gone)
      temporal.forget(`${String(instanceResource(identity, living)[attr.serviceInstanceId])} `);
    for (const placement of placements.ended(gone)) events.emit(placementEvent(placement));
  };

  let failures = 0;
  const guarded = (): void => {
    try {
      tick();
    } catch (error) {
      failures += 1;
      // Each kind of failure is said once in a while, not five times a second.
      if (failures % 50 === 1)
        say('error', `agent: reading failed (${failures} times so far): ${describeError(error)}`);
    }
  };
  guarded();
  const cancel = clock.every(config.readIntervalSeconds, guarded);
  say(
    'info',
    `agent: cgroup v${layout.version}, reading every ${config.readIntervalSeconds} s, telling ${config.endpoint}`,
  );

  return {
    status: () => ({
      instances: book.size(),
      contended: hottest,
      events: probe.counters().events,
      lost: { ...lost(), failed_reads: failures },
      exports: {
        delivered: outbox.delivered(),
        lost: outbox.lost(),
        lastFailure: outbox.lastFailure() ?? events.lastFailure(),
      },
      mapMemoryBytes: probe.counters().memoryBytes,
      collectSeconds,
    }),
    stop: async () => {
      cancel();
      await outbox.stop();
      await events.stop();
      masks.close();
      probe.stop();
    },
  };
}

/** Free memory changes all the time, and is no reason to tell the topology again. */
function topologyDigest(topology: Topology): string {
  return JSON.stringify({
    ...topology,
    nodes: topology.nodes.map(({ memoryFreeBytes: _, ...node }) => node),
  });
}

function topologyEvent(topology: Topology): OutgoingEvent {
  const online = topology.cpus.filter(cpu => cpu.online).length;
  return plainEvent(
    'sculptor.topology',
    topology,
    `${topology.hostName}: ${online} of ${topology.cpus.length} CPUs online, ${topology.nodes.length} memory nodes, cgroup v${topology.cgroupVersion}`,
  );
}

function placementEvent(
  placement: Parameters<typeof plainEvent<'sculptor.placement'>>[1],
): OutgoingEvent {
  const { instance, alive, taskCount, cgroup } = placement;
  const body = alive
    ? `${instance.id}: ${taskCount} tasks, weight ${cgroup.weight ?? 'none'}`
    : `${instance.id} has ended`;
  return plainEvent('sculptor.placement', placement, body);
}
