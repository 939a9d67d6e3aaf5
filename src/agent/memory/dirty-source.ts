import { describeError, KernelInterfaceError } from '../../contract/errors.ts';
import type { Loss } from '../../contract/metrics/losses.ts';
import { readQemuArguments } from '../../linux/command-line.ts';
import { type DirtyRate, parseDirtyRate } from '../../linux/dirty-rate.ts';
import { growsWhenRead } from '../../linux/qemu-options.ts';
import { askQmp, isRefusal } from '../../linux/qmp.ts';
import type { Source, SourceContext, SourceKind } from '../sources/source.ts';
import { type AskedMachine, createQmpTurns } from '../vms/qmp-turns.ts';
import { createPauses } from './pauses.ts';

/** How fast the guests of VMs write to their memory, as their QEMU estimates it: asked by QMP. */
export const dirtySource: SourceKind = {
  name: 'dirty',
  tells: 'how fast VMs write to their memory',
  start: context => startDirtySource(context, askQmp),
};

type Known = {
  measured: { readonly bytesPerSecond: number; readonly at: number } | null;
  /**
   * Which measurement the monitor had the result of when it was asked last (`noResult`: of none yet). Another one came
   * since then. Null: it is not known, and what it has may be of any age.
   */
  seen: number | null;
};

const noResult = -1;

/** VMs that are measured at once. Each holds its place for two seconds, so 240 of them are measured in a minute. */
const mostAtOnce = 8;
const measuringSeconds = 1;
/** Looks for the result: soon after QEMU has slept its second, then now and then, since a large guest takes longer to hash. */
const [firstLookSeconds, nextLookSeconds, mostLooks] = [1.2, 2, 15];
/** Where somebody else measures. */
const othersLookSeconds = 5;
const staleIntervals = 3;

type Why = 'qmp_refused' | 'qmp_busy' | 'would_grow';

const busy = {
  why: 'qmp_busy',
  detail: 'somebody else is measuring it',
  againSeconds: othersLookSeconds,
} as const;

/** Who only looks takes no memory: what others share, or could not have, is not measured. */
const wouldGrow = {
  why: 'would_grow',
  detail:
    'its memory is shared, or of huge pages, and was not allocated beforehand: the pages that are sampled would come to be',
} as const;

/** `ask` is `askQmp`; what it does not answer is counted, and holds up nobody. */
export function startDirtySource(context: SourceContext, ask: typeof askQmp): Source {
  const { clock, config } = context;
  const { pause, stop } = createPauses(clock);

  const take = (known: Known, found: Extract<DirtyRate, { status: 'measured' }>): void => {
    known.measured = { bytesPerSecond: found.bytesPerSecond, at: clock.monotonicSeconds() };
    known.seen = found.startSeconds;
  };

  const measure = async ({ known, ask }: AskedMachine<Known>): Promise<typeof busy | null> => {
    const look = async () => parseDirtyRate(await ask('query-dirty-rate'));
    await ask('calc-dirty-rate', { 'calc-time': measuringSeconds });
    const { startSeconds } = await look();
    for (let looks = 0; looks < mostLooks; looks += 1) {
      await pause(looks === 0 ? firstLookSeconds : nextLookSeconds);
      const found = await look();
      if (found.status === 'measured') {
        take(known, found);
        return null;
      }
      // Ours is over, and somebody else has begun his since then.
      if (found.startSeconds !== startSeconds) return busy;
    }
    throw new KernelInterfaceError(
      'QMP_UNAVAILABLE',
      `calc-dirty-rate came to no end within ${mostLooks * nextLookSeconds} s`,
    );
  };

  const turns = createQmpTurns<Known, Why>(context, ask, {
    intervalSeconds: () => config.placementIntervalSeconds,
    mostAtOnce,
    reasons: ['qmp_refused', 'qmp_busy', 'would_grow'],
    untold: 'how fast its memory is written to is not told',
    unknownMetric: 'sculptor.agent.dirty_rate.unknown',
    newKnown: () => ({ measured: null, seen: null }),
    question: async machine => {
      const { known } = machine;
      if (growsWhenRead(readQemuArguments(context.roots, machine.tgid))) return wouldGrow;
      try {
        const found = parseDirtyRate(await machine.ask('query-dirty-rate'));
        const start = found.status === 'measured' ? found.startSeconds : noResult;
        const isNew = known.seen !== null && start !== known.seen;
        known.seen = start;
        // Nobody's measurement is disturbed, nor is its result replaced before who asked for it had time to read it.
        if (found.status === 'measuring') return busy;
        if (found.status !== 'measured' || !isNew) return await measure(machine);
        take(known, found);
        return null;
      } catch (error) {
        // What it has when it is asked again may be old by then.
        known.seen = null;
        if (!isRefusal(error)) throw error;
        return { why: 'qmp_refused', detail: describeError(error) };
      }
    },
  });

  return {
    name: 'dirty',
    read: turns.follow,
    samples: living => {
      const measured = turns.of(living)?.measured;
      const oldest = clock.monotonicSeconds() - staleIntervals * config.placementIntervalSeconds;
      if (!measured || measured.at < oldest) return [];
      const { bytesPerSecond: value } = measured;
      return [{ metric: 'sculptor.memory.dirty_rate', start: living.start, value }];
    },
    host: turns.unknown,
    lost: () => ({ unanswered: turns.unanswered() }) satisfies Record<Loss<'dirty'>, number>,
    forget: () => undefined,
    stop: () => {
      turns.stop();
      stop();
    },
  };
}
