import type { Clock, Say } from '../contract/ports.ts';

/**
 * To be called with each reading: says when time went back. Series keep their starts, which then lie in the future for as long as it
 * went back, and back ends refuse points that are older than what they have.
 */
export function createClockWatch(clock: Clock, say: Say): () => void {
  let last = clock.unixSeconds();
  return () => {
    const now = clock.unixSeconds();
    if (now < last)
      say(
        'warn',
        `agent: the clock was set back by ${Math.round(last - now)} s: series that began before begin in the future until the agent is started again`,
      );
    last = now;
  };
}
