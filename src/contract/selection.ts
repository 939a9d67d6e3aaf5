import * as z from 'zod';
import type { SourceName } from './metrics/sources.ts';
import { type MetricName, metrics } from './metrics.ts';
import { nearestOf } from './nearest.ts';

export const profileNameSchema = z.enum(['minimal', 'default', 'full']);

/** From which profile on a metric is told; `always`: no selection takes it away. */
export type Told = 'always' | z.infer<typeof profileNameSchema>;

/** Beside the headline series and the events, what the planner's figures are judged by. */
const inMinimal: ReadonlySet<MetricName> = new Set<MetricName>(['sculptor.runqueue.latency']);

/** What only a closer look at one task needs, what another metric says as well, or what its subject pays for. */
const onlyInFull: ReadonlySet<MetricName> = new Set<MetricName>([
  'sculptor.task.throttled.time',
  'sculptor.task.context_switches',
  'sculptor.task.migrations',
  'sculptor.task.node_migrations',
  'sculptor.memory.dirty_rate',
  'sculptor.memory.referenced',
  'sculptor.memory.idle',
]);

/** Those that cost something at each call of anybody's, whether or not it is one that they count. */
const sourcesOnlyInFull: ReadonlySet<string> = new Set<SourceName>(['udp']);

/** The engine and the sculptor stand on the headline series, and what a part says of itself tells what was lost. */
export function toldFrom(name: MetricName): Told {
  const { headline, of } = metrics[name];
  if (headline || of === 'self') return 'always';
  if (inMinimal.has(name)) return 'minimal';
  return onlyInFull.has(name) ? 'full' : 'default';
}

const all = Object.keys(metrics) as MetricName[];
const inOrder: readonly Told[] = ['always', 'minimal', 'default', 'full'];

/** A metric's name, or all that begin with what stands before `.*`. */
function matching(pattern: string): MetricName[] {
  return pattern.endsWith('.*')
    ? all.filter(name => name.startsWith(pattern.slice(0, -1)))
    : all.filter(name => name === pattern);
}

const patternSchema = z.string().superRefine((pattern, context) => {
  if (matching(pattern).length > 0) return;
  const near = nearestOf(pattern, all);
  const hint = near === null ? 'docs/metrics.md lists them' : `did you mean "${near}"?`;
  context.addIssue(
    `wanted the name of a metric, or the beginning of some as sculptor.memory.*; ${hint}`,
  );
});

const excludedSchema = patternSchema.superRefine((pattern, context) => {
  const kept = matching(pattern).filter(name => toldFrom(name) === 'always');
  if (kept.length > 0)
    context.addIssue(
      `wanted a metric that can be left out: ${kept.join(', ')} cannot, since engine and sculptor stand on the headline series and what the agent says of itself tells what was lost`,
    );
});

const most = 500;

export const metricSelectionSchema = z.strictObject({
  include: z
    .array(patternSchema)
    .max(most)
    .default([])
    .describe('Metrics beside those of the profile, by name, or as `sculptor.memory.*`.'),
  exclude: z
    .array(excludedSchema)
    .max(most)
    .default([])
    .describe(
      'Metrics that are left out, also of what is included; never headline series or what the agent says of itself.',
    ),
});

/** What is told: of the profile, and what is included, without what is excluded. */
export function selectMetrics(selection: {
  readonly profile: z.infer<typeof profileNameSchema>;
  readonly metrics: z.infer<typeof metricSelectionSchema>;
}): ReadonlySet<string> {
  const upTo = inOrder.indexOf(selection.profile);
  const selected = new Set(all.filter(name => inOrder.indexOf(toldFrom(name)) <= upTo));
  for (const name of selection.metrics.include.flatMap(matching)) selected.add(name);
  for (const name of selection.metrics.exclude.flatMap(matching)) selected.delete(name);
  return selected;
}

/** The sources of which something is told: they measure what is selected, and are of the profile. */
export function selectSources(selection: Parameters<typeof selectMetrics>[0]): ReadonlySet<string> {
  const selected = selectMetrics(selection);
  const measuring = all
    .filter(name => selected.has(name))
    .flatMap((name): readonly string[] => metrics[name].sources);
  return new Set(
    measuring.filter(source => selection.profile === 'full' || !sourcesOnlyInFull.has(source)),
  );
}
