import type { Clock } from '../contract/ports.ts';

/** The machine's own time. */
export const realClock: Clock = {
  unixSeconds: () => Date.now() / 1000,
  monotonicSeconds: () => performance.now() / 1000,
  every: (seconds, run) => {
    const timer = setInterval(run, seconds * 1000);
    return () => clearInterval(timer);
  },
  after: (seconds, run) => {
    const timer = setTimeout(run, seconds * 1000);
    return () => clearTimeout(timer);
  },
};
