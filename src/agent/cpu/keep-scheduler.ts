import {
  describeError,
  KernelInterfaceError,
  ProbeError,
  SculptorError,
} from '../../contract/errors.ts';
import type { Cancel } from '../../contract/ports.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { Source } from '../sources/source.ts';
import { absentScheduler } from './absent-scheduler.ts';
import { headlineSamples } from './samples.ts';
import {
  type Scheduler,
  type SchedulerOptions,
  startScheduler,
  type TaskChoice,
} from './scheduler.ts';

/** Pauses before it is tried again double between these: what a kernel lacks seldom comes, and to be refused may take its verifier a second. */
const [shortestPauseSeconds, longestPauseSeconds] = [60, 3600];

const itself =
  'the source "sched" (what instances run, wait and sleep; without it they are the cgroups that have tasks)';

export type KeptScheduler = Scheduler & {
  /** When its counting began, seconds since the epoch: no series of it begins before. */
  readonly since: () => number;
  /** The headline series of an instance, of the totals as of the last reading. */
  readonly headline: (living: LivingInstance) => Sample[];
};

/**
 * The scheduler as `startScheduler` starts it. Where the kernel refuses that, one that is absent, which is said and told, and tried
 * again now and then: in its place comes the one that starts, and no count is lost.
 * @throws ConfigError, and whatever is no error of the kernel's or of a probe, as `startScheduler`
 */
export async function keepScheduler(
  options: SchedulerOptions,
  start: typeof startScheduler = startScheduler,
): Promise<KeptScheduler> {
  const { clock, say } = options;
  let current: Scheduler;
  let since = 0;
  let trouble: ReturnType<NonNullable<Source['trouble']>> = null;
  let choice: TaskChoice | null = null;
  let source: Source | null = null;
  let cancel: Cancel = () => undefined;
  let trying: Promise<void> = Promise.resolve();
  let stopped = false;

  const note = (error: unknown): void => {
    const code = error instanceof SculptorError ? error.code : 'KERNEL_IO';
    const why = describeError(error).split('\n')[0] ?? code;
    if (why !== trouble?.why) say('warn', `agent: without ${itself}: ${why}`);
    trouble = { code, why };
  };
  const tryAgain = async (pauseSeconds: number): Promise<void> => {
    try {
      const started = await start(options);
      if (stopped) return started.stop();
      current = started;
      [since, trouble] = [clock.unixSeconds(), null];
      source = choice && current.source(choice);
      say('info', `agent: ${itself} runs now`);
    } catch (error) {
      note(error);
      tryAgainAfter(Math.min(2 * pauseSeconds, longestPauseSeconds));
    }
  };
  const tryAgainAfter = (seconds: number): void => {
    if (stopped) return;
    cancel = clock.after(seconds, () => {
      trying = tryAgain(seconds);
    });
  };

  try {
    current = await start(options);
    since = clock.unixSeconds();
  } catch (error) {
    if (!(error instanceof KernelInterfaceError || error instanceof ProbeError)) throw error;
    note(error);
    current = absentScheduler(options, () => trouble);
    tryAgainAfter(shortestPauseSeconds);
  }

  /** An instance may have been there before. */
  const sinceThen = (samples: readonly Sample[]): Sample[] =>
    samples.map(sample => (sample.start < since ? { ...sample, start: since } : sample));
  const now = (): Source => {
    if (source === null) throw new Error('the scheduler has no source yet');
    return source;
  };
  return {
    probe: {
      readTotals: into => current.probe.readTotals(into),
      forget: ids => current.probe.forget(ids),
      counters: () => current.probe.counters(),
    },
    source: tasks => {
      choice = tasks;
      source = current.source(tasks);
      return {
        name: 'sched',
        read: living => now().read(living),
        samples: living => sinceThen(now().samples(living)),
        host: () => now().host(),
        lost: () => now().lost(),
        forget: gone => now().forget(gone),
        trouble: () => now().trouble?.() ?? null,
        stop: () => now().stop(),
      };
    },
    runByCpu: () => current.runByCpu(),
    maskedThreads: () => current.maskedThreads(),
    get untold() {
      return current.untold;
    },
    since: () => since,
    headline: living => sinceThen(headlineSamples(living)),
    stop: async () => {
      stopped = true;
      cancel();
      await trying;
      await current.stop();
    },
  };
}
