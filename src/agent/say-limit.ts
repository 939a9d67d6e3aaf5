import type { Clock, Say } from '../contract/ports.ts';

/** What comes back all the time, such as somebody who is refused, is said this often. */
const saySeconds = 10;

/** What many instances have in common is said of one of them, since each that comes later would bring it again. */
const sayByReasonSeconds = 3600;

/** Says a warning at most every so often, with how many were not said. */
export function createSayLimit(
  clock: Clock,
  say: Say,
  seconds = saySeconds,
): (message: string) => void {
  let next = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  return message => {
    const now = clock.monotonicSeconds();
    if (now < next) {
      unsaid += 1;
      return;
    }
    say('warn', unsaid > 0 ? `${message} (and ${unsaid} others since the last)` : message);
    next = now + seconds;
    unsaid = 0;
  };
}

/** Says once an hour for each reason what one of many instances lacks; how many lack it is for a metric to tell. */
export function createSayByReason(
  clock: Clock,
  say: Say,
): (reason: string, message: string) => void {
  const limits = new Map<string, (message: string) => void>();
  return (reason, message) => {
    const limit = limits.get(reason) ?? createSayLimit(clock, say, sayByReasonSeconds);
    limits.set(reason, limit);
    limit(message);
  };
}
