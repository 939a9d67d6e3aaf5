import type { Clock, Say } from '../contract/ports.ts';

/** What comes back all the time, such as somebody who is refused, is said this often. */
const saySeconds = 10;

/** Says a warning at most every so often, with how many were not said. */
export function createSayLimit(clock: Clock, say: Say): (message: string) => void {
  let next = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  return message => {
    const now = clock.monotonicSeconds();
    if (now < next) {
      unsaid += 1;
      return;
    }
    say('warn', unsaid > 0 ? `${message} (and ${unsaid} others since the last)` : message);
    next = now + saySeconds;
    unsaid = 0;
  };
}
