import type { AgentConfig } from '../../contract/config.ts';
import type { Cancel, Clock } from '../../contract/ports.ts';
import type { LivingInstance } from '../instances/instances.ts';

/** An interval is cut into so many turns. */
const turnsPerInterval = 10;
/** New instances that are read at once; more than that wait for their turn. */
const newAtOnce = 50;
/** An instance that did not run is read so seldom; others may have taken its memory meanwhile. */
const idleSeconds = 60;

/** Spreads the reading of files over an interval, so that it holds up nothing for long. */
export type ReadingTurns = {
  /**
   * Begins an interval: new instances are read now, those that ran since they were read last in the turns to come, and
   * those that did not after a minute.
   * @throws at its end, what a reading has thrown since it was called last: the first of them
   */
  readonly next: (living: readonly LivingInstance[]) => void;
  /** Readings that threw; each is of one instance, and holds up no other. */
  readonly failed: () => number;
  readonly stop: Cancel;
};

/** `take` reads one instance. */
export function createReadingTurns(
  clock: Clock,
  config: Pick<AgentConfig, 'detailIntervalSeconds'>,
  take: (living: LivingInstance) => void,
): ReadingTurns {
  const last = new WeakMap<LivingInstance, { runNs: number; at: number }>();
  let waiting: LivingInstance[] = [];
  let perTurn = 0;
  let failure: { error: unknown } | null = null;
  let failed = 0;

  const read = (living: LivingInstance): void => {
    last.set(living, { runNs: living.totals.runNs, at: clock.monotonicSeconds() });
    try {
      take(living);
    } catch (error) {
      failed += 1;
      failure ??= { error };
    }
  };
  const turn = (): void => {
    for (const living of waiting.splice(0, perTurn)) read(living);
  };
  const isDue = (living: LivingInstance): boolean => {
    const before = last.get(living);
    return (
      before === undefined ||
      before.runNs !== living.totals.runNs ||
      clock.monotonicSeconds() - before.at >= idleSeconds
    );
  };
  let every = config.detailIntervalSeconds;
  let cancel = clock.every(every / turnsPerInterval, turn);

  return {
    next: living => {
      if (every !== config.detailIntervalSeconds) {
        every = config.detailIntervalSeconds;
        cancel();
        cancel = clock.every(every / turnsPerInterval, turn);
      }
      const fresh = living.filter(one => !last.has(one)).slice(0, newAtOnce);
      for (const one of fresh) read(one);
      waiting = living.filter(isDue);
      // The last turn may fall behind the next interval's beginning.
      perTurn = Math.ceil(waiting.length / (turnsPerInterval - 1));
      const first = failure;
      failure = null;
      if (first) throw first.error;
    },
    failed: () => failed,
    stop: () => cancel(),
  };
}
