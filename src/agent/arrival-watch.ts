import type { Clock, Say } from '../contract/ports.ts';

/** What lasts is said again so often, and what comes and goes at most so often. */
const [againSeconds, betweenSeconds] = [600, 60];

export type ArrivalWatchOptions = {
  readonly endpoint: string;
  /** Of the last export; null: it was taken. */
  readonly lastFailure: () => string | null;
  readonly clock: Clock;
  readonly say: Say;
};

/**
 * To be called with each reading: says why what is told does not arrive, and when it does again. No metric tells that meanwhile, and
 * whoever has mistyped the endpoint looks here first.
 */
export function createArrivalWatch(options: ArrivalWatchOptions): () => void {
  const { endpoint, lastFailure, clock, say } = options;
  let isMissed = false;
  let saidAt = Number.NEGATIVE_INFINITY;
  return () => {
    const failure = lastFailure();
    if (failure === null) {
      if (isMissed) say('info', `agent: what is told arrives at ${endpoint} again`);
      isMissed = false;
      return;
    }
    const now = clock.monotonicSeconds();
    if (now - saidAt < (isMissed ? againSeconds : betweenSeconds)) return;
    say('warn', `agent: what is told does not arrive at ${endpoint}: ${failure}`);
    isMissed = true;
    saidAt = now;
  };
}
