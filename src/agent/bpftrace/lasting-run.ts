import type { Cancel } from '../../contract/ports.ts';
import {
  type BpftraceRun,
  noLosses,
  type RunLosses,
  type RunOptions,
  type runBpftrace,
} from './run.ts';

export type LastingRun = {
  /** Null: it runs; else why not. */
  readonly trouble: () => string | null;
  /** How often it was begun again. */
  readonly restarts: () => number;
  /** Of all runs. */
  readonly losses: () => RunLosses;
  /** Ends the run, and begins another at once by what `program` is now. While it waits to begin one, nothing is to be done. */
  readonly renew: () => void;
  readonly stop: () => Promise<void>;
};

export type LastingRunOptions = Omit<RunOptions, 'ended' | 'program'> & {
  readonly run: typeof runBpftrace;
  /** Asked whenever a run begins. */
  readonly program: () => string;
  /** One run is over, and what it printed is final; a reason that is new is to be said. */
  readonly ended: (news: string | null) => void;
};

/** Pauses before it is begun again: they double, and begin anew after a run that counted, and lasted as long as the longest. */
const [shortestPauseSeconds, longestPauseSeconds] = [1, 60];

/** Why it does not run yet: it compiles, or attaches. */
export const starting = 'it is starting';

/** Runs a program, and runs it again whenever it ends: one that exits, is killed, or is refused (what it lacks may come). */
export function keepRunning(options: LastingRunOptions): LastingRun {
  const { clock } = options;
  let pauseSeconds = shortestPauseSeconds;
  let restarts = 0;
  let trouble: string | null = starting;
  let said: string | null = null;
  let before = noLosses;
  let cancel: Cancel = () => undefined;
  const ending = new Set<Promise<void>>();

  const start = (): BpftraceRun => {
    const began = clock.monotonicSeconds();
    const run = options.run({
      ...options,
      program: options.program(),
      attached: () => {
        trouble = null;
        options.attached();
      },
      ended: ({ attached, why }) => {
        before = addLosses(before, run.losses());
        trouble = why;
        if (attached && clock.monotonicSeconds() - began >= longestPauseSeconds)
          pauseSeconds = shortestPauseSeconds;
        options.ended(why === said ? null : why);
        said = why;
        cancel = clock.after(pauseSeconds, () => {
          restarts += 1;
          current = start();
        });
        pauseSeconds = Math.min(pauseSeconds * 2, longestPauseSeconds);
        current = null;
      },
    });
    return run;
  };
  let current: BpftraceRun | null = start();

  return {
    trouble: () => trouble,
    restarts: () => restarts,
    losses: () => (current ? addLosses(before, current.losses()) : before),
    renew: () => {
      if (current === null) return;
      const gone = current.stop().finally(() => ending.delete(gone));
      ending.add(gone);
      before = addLosses(before, current.losses());
      trouble = starting;
      options.ended(null);
      current = start();
    },
    stop: async () => {
      cancel();
      await Promise.all([...ending, current?.stop()]);
    },
  };
}

function addLosses(a: RunLosses, b: RunLosses): RunLosses {
  return {
    lost_events: a.lost_events + b.lost_events,
    map_full: a.map_full + b.map_full,
    helper_failed: a.helper_failed + b.helper_failed,
    text_lines: a.text_lines + b.text_lines,
    malformed_lines: a.malformed_lines + b.malformed_lines,
    line_too_long: a.line_too_long + b.line_too_long,
    flooded_seconds: a.flooded_seconds + b.flooded_seconds,
  };
}
