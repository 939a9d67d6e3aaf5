import type { Clock } from '../contract/ports.ts';

export type ReadingClock = Clock & {
  /** Runs a reading: all that it asks for the time is told when it began. */
  readonly during: (read: () => void) => void;
};

/**
 * A clock by which a reading, which takes some ms, happens at one time, of which all its points are: what is met first within it
 * would else begin after them.
 */
export function createReadingClock(clock: Clock): ReadingClock {
  let began: number | null = null;
  return {
    ...clock,
    unixSeconds: () => began ?? clock.unixSeconds(),
    during: read => {
      began = clock.unixSeconds();
      try {
        read();
      } finally {
        began = null;
      }
    },
  };
}
