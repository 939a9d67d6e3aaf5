import { describeError, ProbeError, SculptorError } from '../../contract/errors.ts';
import { attr } from '../../contract/metrics.ts';
import { mustHave } from '../../linux/capabilities.ts';
import type { Sample } from '../../otlp/sample.ts';
import { blockSource } from '../block/block-source.ts';
import { vdiskSource } from '../block/vdisk-source.ts';
import { outlierSource } from '../cpu/outlier-source.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { Selection } from '../live-config.ts';
import { accessSource } from '../memory/access-source.ts';
import { dirtySource } from '../memory/dirty-source.ts';
import { faultSource } from '../memory/fault-source.ts';
import { memorySource } from '../memory/memory-source.ts';
import { netSource } from '../network/net-source.ts';
import { tapSource } from '../network/tap-source.ts';
import { udpSource } from '../network/udp-source.ts';
import { guestSource } from '../vms/guest-source.ts';
import { kvmSource } from '../vms/kvm-source.ts';
import { stealSource } from '../vms/steal-source.ts';
import type { Source, SourceContext, SourceKind } from './source.ts';

/** Every source beside the scheduler's, on which the totals stand. */
export const sourceKinds: readonly SourceKind[] = [
  faultSource,
  memorySource,
  blockSource,
  netSource,
  udpSource,
  tapSource,
  kvmSource,
  guestSource,
  stealSource,
  vdiskSource,
  dirtySource,
  accessSource,
  outlierSource,
];

export type Sources = {
  readonly read: (living: readonly LivingInstance[]) => void;
  readonly samples: (living: LivingInstance) => Sample[];
  readonly host: (start: number) => Sample[];
  readonly lost: () => Record<string, number>;
  readonly forget: Source['forget'];
  /** Starts and stops what the selection has come to ask for, or asks for no more. */
  readonly follow: () => void;
  /** By name: `running`, or why it is not. */
  readonly status: () => Record<string, string>;
  /** Resolves when no process of any is left. */
  readonly stop: () => Promise<void>;
};

/** One that runs. What was started later than the agent counts from then: no series of it began before `since`. */
type Running = { readonly source: Source; readonly since: number };

const notSelected = { code: 'not_selected', why: 'not selected' };

/**
 * Starts each that is selected apart, beside those that run already: one that is refused is said, told as unavailable, and
 * the rest runs.
 */
export function startSources(
  kinds: readonly SourceKind[],
  context: SourceContext,
  started: readonly Source[] = [],
  selection: Pick<Selection, 'tellsOf'> = { tellsOf: () => true },
): Sources {
  const { clock, say } = context;
  const running = new Map<string, Running>(
    started.map(source => [source.name, { source, since: 0 }]),
  );
  const refused = new Map<string, { code: string; why: string }>();
  /** The last reason that was said, of those that did not run since: who is needed now and then is refused as often. */
  const saidWhy = new Map<string, string>();
  const failures = new Map<string, number>();
  const guarded = createGuard(failures, context);
  const losses = createLosses(failures, source => guarded(source, () => source.lost()));
  const stops = createStops(guarded);

  const each = (run: (source: Source) => void): void => {
    for (const { source } of running.values()) guarded(source, run);
  };
  const start = (kind: SourceKind, since: number): void => {
    const before = refused.get(kind.name);
    try {
      running.set(kind.name, { source: startSource(kind, context), since });
      refused.delete(kind.name);
      saidWhy.delete(kind.name);
      if (before) say('info', `agent: the source "${kind.name}" (${kind.tells}) runs now`);
    } catch (error) {
      const code = error instanceof SculptorError ? error.code : 'unexpected';
      const why = describeError(error).split('\n')[0] ?? code;
      refused.set(kind.name, { code, why });
      if (saidWhy.get(kind.name) !== why)
        say('warn', `agent: without the source "${kind.name}" (${kind.tells}): ${why}`);
      saidWhy.set(kind.name, why);
    }
  };
  const end = (kind: SourceKind): void => {
    const one = running.get(kind.name);
    running.delete(kind.name);
    refused.set(kind.name, notSelected);
    if (!one) return;
    losses.keep(one.source);
    stops.stop(one.source);
    say(
      'info',
      `agent: the source "${kind.name}" (${kind.tells}) is stopped: nothing of it is selected`,
    );
  };
  const isWanted = (kind: SourceKind): boolean =>
    selection.tellsOf(kind.name) || kind.neededAnyway?.(context) === true;
  const follow = (): void => {
    for (const kind of kinds) {
      const isOut = refused.get(kind.name) === notSelected;
      if (!isWanted(kind)) {
        if (!isOut) end(kind);
      } else if (isOut) start(kind, clock.unixSeconds());
    }
  };
  for (const kind of kinds) {
    if (isWanted(kind)) start(kind, 0);
    else refused.set(kind.name, notSelected);
  }

  let triedAt = clock.monotonicSeconds();
  const tryAgain = (): void => {
    const now = clock.monotonicSeconds();
    if (now - triedAt < context.config.placementIntervalSeconds) return;
    triedAt = now;
    for (const kind of kinds) {
      const why = refused.get(kind.name);
      if (kind.comesLater && why && why !== notSelected) start(kind, clock.unixSeconds());
    }
  };
  const told = (of: (source: Source) => readonly Sample[]): Sample[] =>
    [...running.values()].flatMap(({ source, since }) =>
      (guarded(source, of) ?? []).map(sample =>
        sample.start < since ? { ...sample, start: since } : sample,
      ),
    );
  /** By name: why it measures nothing; null: it runs. */
  const states = (): (readonly [name: string, { code: string; why: string } | null])[] => [
    ...[...running].map(([name, { source }]) => [name, source.trouble?.() ?? null] as const),
    ...refused,
  ];
  return {
    read: living => {
      follow();
      tryAgain();
      each(source => source.read(living));
    },
    samples: living => told(source => source.samples(living)),
    host: start => [
      ...told(source => source.host().map(sample => ({ start, ...sample }))),
      ...states().map(([name, trouble]) => availability(name, trouble, start)),
    ],
    lost: () => losses.all([...running.values()].map(({ source }) => source)),
    forget: gone => each(source => source.forget(gone)),
    follow,
    status: () =>
      Object.fromEntries(states().map(([name, trouble]) => [name, trouble?.why ?? 'running'])),
    stop: () => {
      for (const { source } of running.values()) stops.stop(source);
      return stops.all();
    },
  };
}

/** Those that are being stopped: a process of theirs may take a moment to end. */
function createStops(guarded: <T>(source: Source, run: (source: Source) => T) => T | null) {
  const going = new Set<Promise<void>>();
  return {
    stop: (source: Source): void => {
      const stopped = Promise.resolve(guarded(source, one => one.stop()));
      const gone = stopped
        .catch(error => {
          guarded(source, () => {
            throw error;
          });
        })
        .then(() => void going.delete(gone));
      going.add(gone);
    },
    all: async (): Promise<void> => void (await Promise.all(going)),
  };
}

/**
 * Starts one where this process has the capabilities it needs.
 * @throws KernelInterfaceError KERNEL_PRIVILEGE which names those that it lacks, and what the source throws
 */
function startSource(kind: SourceKind, context: SourceContext): Source {
  mustHave(context.roots, kind.needs);
  return kind.start(context);
}

/**
 * Whether one can be started: starts it for real and stops it, or only looks where it is such a source.
 * @throws as `startSource`; ProbeError BPFTRACE_FAILED
 */
export async function trySource(
  kind: SourceKind,
  context: SourceContext,
): Promise<ReturnType<NonNullable<SourceKind['look']>>> {
  mustHave(context.roots, kind.needs);
  if (kind.look) return kind.look(context);
  const source = kind.start(context);
  const trouble = await source.attached;
  await source.stop();
  if (typeof trouble === 'string') throw new ProbeError('BPFTRACE_FAILED', trouble);
  return { found: 'was started and stopped', isSure: true };
}

/** What fails all the time is said every so often. */
const saidEverySeconds = 300;

/** No source that fails hurts another, nor who asks for it: that is counted, and said now and then. Null: it failed. */
function createGuard(failures: Map<string, number>, { clock, say }: SourceContext) {
  const saidAt = new Map<string, number>();
  return <T>(source: Source, run: (source: Source) => T): T | null => {
    try {
      return run(source);
    } catch (error) {
      const { name } = source;
      const times = (failures.get(name) ?? 0) + 1;
      failures.set(name, times);
      const now = clock.monotonicSeconds();
      if (now - (saidAt.get(name) ?? -saidEverySeconds) < saidEverySeconds) return null;
      saidAt.set(name, now);
      const why = describeError(error);
      say('error', `agent: source "${name}" failed (${times} times so far): ${why}`);
      return null;
    }
  };
}

/**
 * What sources did not count, by reason: none of it falls when a source is stopped and started again, nor when it cannot say
 * (`ask` is null): then what it said last stands.
 */
function createLosses(
  failures: ReadonlyMap<string, number>,
  ask: (source: Source) => Readonly<Record<string, number>> | null,
) {
  const kept = new Map<string, number>();
  const latest = new Map<string, Readonly<Record<string, number>>>();
  const of = (source: Source): [string, number][] => {
    const { name } = source;
    const lost = ask(source) ?? latest.get(name) ?? {};
    latest.set(name, lost);
    return [
      ...Object.entries(lost).map(([reason, n]): [string, number] => [`${name}_${reason}`, n]),
      [`${name}_failed_reads`, 0],
    ];
  };
  return {
    /** The last of a source that is stopped. */
    keep: (source: Source): void => {
      for (const [reason, n] of of(source)) kept.set(reason, (kept.get(reason) ?? 0) + n);
      latest.delete(source.name);
    },
    all: (running: readonly Source[]): Record<string, number> => {
      const sums = new Map(kept);
      for (const [reason, n] of running.flatMap(of)) sums.set(reason, (sums.get(reason) ?? 0) + n);
      for (const [name, n] of failures) sums.set(`${name}_failed_reads`, n);
      return Object.fromEntries(sums);
    },
  };
}

function availability(name: string, trouble: { code: string } | null, start: number): Sample {
  return {
    metric: 'sculptor.agent.source.available',
    attributes: { [attr.source]: name, ...(trouble ? { [attr.reason]: trouble.code } : {}) },
    start,
    value: trouble ? 0 : 1,
  };
}
