import type { Clock } from '../../contract/ports.ts';

/** How much a guest may still say. */
export type Budget = {
  /** Seconds until it may speak again; 0: now. */
  readonly waitSeconds: () => number;
  /** Takes off what it said, which may be more than is left: then it waits until that is made up for. */
  readonly spend: (records: number) => void;
};

/** A budget that fills with `perSecond` records, and holds one second of them. */
export function createBudget(perSecond: number, clock: Clock): Budget {
  let left = perSecond;
  let at = clock.monotonicSeconds();
  const fill = (): void => {
    const now = clock.monotonicSeconds();
    left = Math.min(perSecond, left + (now - at) * perSecond);
    at = now;
  };
  return {
    waitSeconds: () => {
      fill();
      return left > 0 ? 0 : -left / perSecond;
    },
    spend: records => {
      fill();
      left -= records;
    },
  };
}

/** Takes what it costs this thread off a budget of seconds, also where it throws. */
export function timed<T>(budget: Budget, run: () => T): T {
  const before = process.threadCpuUsage();
  try {
    return run();
  } finally {
    const { user, system } = process.threadCpuUsage(before);
    budget.spend((user + system) / 1e6);
  }
}
