import { attr } from '../contract/metrics.ts';
import type { Sample } from '../otlp/sample.ts';

export type SelfCounts = {
  /** Null where they are not counted. */
  readonly events: number | null;
  readonly recovered: number;
  readonly lost: Readonly<Record<string, number>>;
  readonly exportsLost: Readonly<Record<string, number>>;
  readonly profilesLost: Readonly<Record<string, number>>;
  readonly uncounted: number;
  /** VMs, by reason. */
  readonly vcpusUnknown: Readonly<Record<string, number>>;
  /** QEMUs, by reason. */
  readonly vmsUnknown: Readonly<Record<string, number>>;
  readonly collectSeconds: number;
};

/** What the agent says of itself. Reasons that never happened are told as 0, so that a first loss is seen as a change. */
export function selfSamples(counts: SelfCounts, start: number): Sample[] {
  const byReason = (
    metric: Sample['metric'],
    reasons: Readonly<Record<string, number>>,
  ): Sample[] =>
    Object.entries(reasons).map(([reason, value]) => ({
      metric,
      attributes: { [attr.reason]: reason },
      start,
      value,
    }));
  return [
    ...(counts.events === null
      ? []
      : [{ metric: 'sculptor.agent.events' as const, start, value: counts.events }]),
    { metric: 'sculptor.agent.events.recovered', start, value: counts.recovered },
    ...byReason('sculptor.agent.events.lost', counts.lost),
    ...byReason('sculptor.agent.exports.lost', counts.exportsLost),
    ...byReason('sculptor.agent.profiles.lost', counts.profilesLost),
    { metric: 'sculptor.agent.instances.uncounted', start, value: counts.uncounted },
    ...byReason('sculptor.agent.vcpus.unknown', counts.vcpusUnknown),
    ...byReason('sculptor.agent.vms.unknown', counts.vmsUnknown),
    { metric: 'sculptor.agent.collect.time', start, value: counts.collectSeconds },
  ];
}
