import type { Clock } from '../contract/ports.ts';
import { createSteadyTime } from './steady-time.ts';

const monotonicSeconds = () => performance.now() / 1000;

/** The machine's own time; one for all parts of a process. */
export const realClock: Clock = {
  unixSeconds: createSteadyTime({ unixSeconds: () => Date.now() / 1000, monotonicSeconds }),
  monotonicSeconds,
  every: (seconds, run) => {
    const timer = setInterval(run, seconds * 1000);
    return () => clearInterval(timer);
  },
  after: (seconds, run) => {
    const timer = setTimeout(run, seconds * 1000);
    return () => clearTimeout(timer);
  },
};
