/** Stops a timer; calling it again does nothing. */
export type Cancel = () => void;

/** Time as the parts see it: injected, so that tests step it. */
export type Clock = {
  /**
   * Seconds since the epoch, for stamps and expiry across processes. May jump ahead; goes back only where the machine's clock
   * was set back so far that it must have been wrong.
   */
  readonly unixSeconds: () => number;
  /** Seconds that never jump back. For leases, timeouts and rates. */
  readonly monotonicSeconds: () => number;
  readonly every: (seconds: number, run: () => void) => Cancel;
  readonly after: (seconds: number, run: () => void) => Cancel;
};

/** What runs until it is stopped. `stop` resolves when nothing of it is left. */
export type Running = {
  readonly stop: () => Promise<void>;
};

/** One line for a person; parts never print by themselves. */
export type Say = (level: 'info' | 'warn' | 'error', message: string) => void;
