import { describeError, SculptorError } from '../contract/errors.ts';
import { attr } from '../contract/metrics.ts';
import type { Say } from '../contract/ports.ts';
import type { Sample } from '../otlp/metric-data.ts';
import { blockSource } from './block-source.ts';
import { faultSource } from './fault-source.ts';
import type { LivingInstance } from './instances.ts';
import { kvmSource } from './kvm-source.ts';
import { memorySource } from './memory-source.ts';
import type { Source, SourceContext, SourceKind } from './source.ts';
import { stealSource } from './steal-source.ts';

/** Every source beside the scheduler's, which the agent cannot do without. */
export const sourceKinds: readonly SourceKind[] = [
  faultSource,
  memorySource,
  blockSource,
  kvmSource,
  stealSource,
];

export type Sources = {
  readonly read: (living: readonly LivingInstance[]) => void;
  readonly samples: (living: LivingInstance) => Sample[];
  readonly host: (start: number) => Sample[];
  readonly lost: () => Record<string, number>;
  readonly forget: Source['forget'];
  /** By name: `running`, or why it is not. */
  readonly status: () => Record<string, string>;
  readonly stop: () => void;
};

/** Starts each apart, beside those that run already: one that is refused is said, told as unavailable, and the rest runs. */
export function startSources(
  kinds: readonly SourceKind[],
  context: SourceContext,
  started: readonly Source[] = [],
): Sources {
  const running: Source[] = [...started];
  const refused = new Map<string, { code: string; why: string }>();
  const start = (kind: SourceKind): void => {
    const before = refused.get(kind.name);
    try {
      running.push(kind.start(context));
      refused.delete(kind.name);
      if (before) context.say('info', `agent: the source "${kind.name}" (${kind.tells}) runs now`);
    } catch (error) {
      const code = error instanceof SculptorError ? error.code : 'unexpected';
      const why = describeError(error).split('\n')[0] ?? code;
      refused.set(kind.name, { code, why });
      if (before?.why !== why)
        context.say('warn', `agent: without the source "${kind.name}" (${kind.tells}): ${why}`);
    }
  };
  for (const kind of kinds) start(kind);
  let triedAt = context.clock.monotonicSeconds();
  const tryAgain = (): void => {
    const now = context.clock.monotonicSeconds();
    if (now - triedAt < context.config.placementIntervalSeconds) return;
    triedAt = now;
    for (const kind of kinds) if (kind.comesLater && refused.has(kind.name)) start(kind);
  };
  const failures = new Map<string, number>();
  const failed = (name: string, error: unknown, say: Say): void => {
    const times = (failures.get(name) ?? 0) + 1;
    failures.set(name, times);
    // Said now and then, not with each reading.
    if (times % 50 === 1)
      say(
        'error',
        `agent: source "${name}" failed (${times} times so far): ${describeError(error)}`,
      );
  };
  const each = (run: (source: Source) => void): void => {
    for (const source of running) {
      try {
        run(source);
      } catch (error) {
        failed(source.name, error, context.say);
      }
    }
  };
  return {
    read: living => {
      tryAgain();
      each(source => source.read(living));
    },
    samples: living => running.flatMap(source => source.samples(living)),
    host: start => [
      ...running.flatMap(source => source.host().map(sample => ({ ...sample, start }))),
      ...availability(running, refused, start),
    ],
    lost: () =>
      Object.fromEntries(
        running.flatMap(source => [
          ...Object.entries(source.lost()).map(([reason, n]) => [`${source.name}_${reason}`, n]),
          [`${source.name}_failed_reads`, failures.get(source.name) ?? 0],
        ]),
      ),
    forget: gone => each(source => source.forget(gone)),
    status: () =>
      Object.fromEntries([
        ...running.map(({ name }) => [name, 'running']),
        ...[...refused].map(([name, { why }]) => [name, why]),
      ]),
    stop: () => {
      for (const source of running) source.stop();
    },
  };
}

function availability(
  running: readonly Source[],
  refused: ReadonlyMap<string, { code: string }>,
  start: number,
): Sample[] {
  const sample = (name: string, value: number, reason?: string): Sample => ({
    metric: 'sculptor.agent.source.available',
    attributes: { [attr.source]: name, ...(reason ? { [attr.reason]: reason } : {}) },
    start,
    value,
  });
  return [
    ...running.map(({ name }) => sample(name, 1)),
    ...[...refused].map(([name, { code }]) => sample(name, 0, code)),
  ];
}
