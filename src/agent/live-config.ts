import type { AgentSettings } from '../contract/agent-settings.ts';
import type { AgentConfig } from '../contract/config.ts';
import { sources } from '../contract/metrics/sources.ts';
import { selectMetrics, selectSources } from '../contract/selection.ts';
import type { Sample } from '../otlp/sample.ts';

/** What is told. A user's own metrics are in no profile: they are told as long as their probe is there. */
export type Selection = {
  readonly tells: (metric: Sample['metric']) => boolean;
  /** Whether anything of a source is told. */
  readonly tellsOf: (source: string) => boolean;
};

export type LiveConfig = {
  /** One object for all of the agent, whose settings change in place: what is needed of it is read when it is needed, not kept. */
  readonly config: AgentConfig;
  readonly selection: Selection;
  readonly change: (settings: AgentSettings) => void;
};

/** Longest pause between two readings that nobody asked for: what lives for less is never named. */
const slowestReading = 1;

/** Seconds from one reading of the totals to the next: where no instance is told as fast as that, there is no need to read so often. */
export function readingSeconds({
  fastInstances,
  readIntervalSeconds,
  headlineIntervalSeconds,
}: Pick<
  AgentSettings,
  'fastInstances' | 'readIntervalSeconds' | 'headlineIntervalSeconds'
>): number {
  if (fastInstances > 0) return readIntervalSeconds;
  return Math.max(readIntervalSeconds, Math.min(headlineIntervalSeconds, slowestReading));
}

/** The configuration of an agent that runs. */
export function createLiveConfig(initial: AgentConfig): LiveConfig {
  const config = { ...initial };
  let [selected, measuring] = [selectMetrics(config), selectSources(config)];
  return {
    config,
    selection: {
      tells: metric => typeof metric !== 'string' || selected.has(metric),
      tellsOf: source => measuring.has(source) || !(source in sources),
    },
    change: settings => {
      Object.assign(config, settings);
      [selected, measuring] = [selectMetrics(config), selectSources(config)];
    },
  };
}
