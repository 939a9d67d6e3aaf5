import type { Cancel, Clock } from '../../src/contract/ports.ts';

type Timer = { at: number; readonly every: number | null; readonly run: () => void };

/** Time that passes only when a test says so; timers run in the order of their times. */
export type SteppedClock = Clock & {
  readonly step: (seconds: number) => void;
  /** The wall clock alone is set ahead, or back; a machine that was suspended finds it ahead. */
  readonly setWall: (seconds: number) => void;
};

export function steppedClock(unixSeconds = 1_700_000_000): SteppedClock {
  const timers = new Set<Timer>();
  let now = 0;
  let setBy = 0;
  const start = (seconds: number, every: number | null, run: () => void): Cancel => {
    const timer = { at: now + seconds, every, run };
    timers.add(timer);
    return () => timers.delete(timer);
  };
  const nextBefore = (end: number): Timer | undefined =>
    [...timers].filter(timer => timer.at <= end).sort((a, b) => a.at - b.at)[0];
  return {
    unixSeconds: () => unixSeconds + setBy + now,
    monotonicSeconds: () => now,
    every: (seconds, run) => start(seconds, seconds, run),
    after: (seconds, run) => start(seconds, null, run),
    setWall: seconds => {
      setBy += seconds;
    },
    step: seconds => {
      const end = now + seconds;
      for (let timer = nextBefore(end); timer; timer = nextBefore(end)) {
        now = Math.max(now, timer.at);
        if (timer.every === null) timers.delete(timer);
        else timer.at += timer.every;
        timer.run();
      }
      now = end;
    },
  };
}
