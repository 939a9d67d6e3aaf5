import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Agent, startAgent } from '../../src/agent/agent.ts';
import type { ProfileSink } from '../../src/agent/profiles/profile-sink.ts';
import { type AgentConfig, agentConfigSchema } from '../../src/contract/config.ts';
import { parseEvent } from '../../src/contract/events.ts';
import type { Placement } from '../../src/contract/host.ts';
import type { Outlier } from '../../src/contract/outlier.ts';
import type { LogEvent, MetricPoint } from '../../src/contract/telemetry.ts';
import { loadNative } from '../../src/linux/native.ts';
import { hostRoots, type Roots } from '../../src/linux/roots.ts';
import { startReceiver } from './receiver.ts';
import { realTime } from './sockets.ts';

export type Told = {
  readonly agent: Agent;
  readonly pointsOf: (metric: string, instance: string) => MetricPoint[];
  /** All that it told of an instance, in the order of arrival. */
  readonly allPointsOf: (instance: string) => MetricPoint[];
  readonly placementsOf: (instance: string) => Placement[];
  readonly topologies: () => number;
  readonly outliers: () => Outlier[];
  readonly stop: () => Promise<void>;
};

/**
 * What `startTold(config)` starts, once for all tests of a file that ask for it, since the kernel takes seconds to verify all of its
 * programs: for tests whose instances came after it. `stop` is for the file's `after.always`.
 */
export function shareTold(config: Partial<AgentConfig> = {}): {
  told: () => Promise<Told>;
  stop: () => Promise<void>;
} {
  let shared: Promise<Told> | null = null;
  return {
    told: () => {
      shared ??= startTold(config);
      return shared;
    },
    stop: async () => (await shared)?.stop(),
  };
}

/**
 * A real agent that tells a receiver of the test's own; details every second, and else as configured. `takes`: whether the receiver
 * takes metrics just now.
 */
export async function startTold(
  config: Partial<AgentConfig> = {},
  roots: Roots = hostRoots,
  { takes, ...others }: { takes?: () => boolean; profileSink?: ProfileSink } = {},
): Promise<Told> {
  const run = mkdtempSync(join(tmpdir(), 'sculptor-agent-'));
  const receiver = await startReceiver(`${run}/otlp.sock`, [], takes);
  const { resources, events } = receiver;
  const agent = await startAgent({
    config: agentConfigSchema.parse({
      endpoint: `unix://${run}/otlp.sock`,
      detailIntervalSeconds: 1,
      ...config,
    }),
    native: loadNative(),
    roots,
    hostId: 'test-host',
    clock: realTime,
    say: () => undefined,
    ...others,
  });
  const allPointsOf = (instance: string) =>
    resources.flatMap(({ resource, points }) =>
      resource['sculptor.instance.id'] === instance ? points : [],
    );
  // Each is parsed once, however often somebody looks.
  const parsed = new WeakMap<LogEvent, Placement>();
  const placementOf = (event: LogEvent): Placement => {
    const placement = parsed.get(event) ?? parseEvent('sculptor.placement', event);
    parsed.set(event, placement);
    return placement;
  };
  return {
    agent,
    pointsOf: (metric, instance) => allPointsOf(instance).filter(point => point.metric === metric),
    allPointsOf,
    placementsOf: instance =>
      events.flatMap(event => {
        if (event.eventName !== 'sculptor.placement') return [];
        const placement = placementOf(event);
        return placement.instance.id === instance ? [placement] : [];
      }),
    outliers: () =>
      events
        .filter(event => event.eventName === 'sculptor.outlier')
        .map(event => parseEvent('sculptor.outlier', event)),
    topologies: () => events.filter(event => event.eventName === 'sculptor.topology').length,
    stop: async () => {
      await agent.stop();
      await receiver.stop();
      rmSync(run, { recursive: true });
    },
  };
}

/** Cores over a series, from its point `skip` to its last. */
export function coresOf(points: readonly MetricPoint[], skip = 3): number {
  const [first, last] = [points[skip], points.at(-1)];
  if (!first || !last) throw new Error('no series');
  return (Number(last.value) - Number(first.value)) / (last.time - first.time);
}
