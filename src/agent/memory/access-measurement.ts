import { KernelInterfaceError, SculptorError } from '../../contract/errors.ts';
import type { Damon, DamonOptions, takeDamon } from '../../linux/damon.ts';
import { joinRanges, lengthOf, type MappingReader, newBytes } from '../../linux/mappings.ts';
import { readProcessMemory, readTaskStat } from '../../linux/procfs.ts';
import type { SourceContext } from '../sources/source.ts';
import { createPauses } from './pauses.ts';

/** How one instance is measured. */
export type Measured = DamonOptions & {
  /** In a row, before the one at the end of which the kernel is asked. */
  readonly windows: number;
};

/** The kernel answers at the end of a window, and others wait for it meanwhile. Not much before it: timers of the kernel may be late by some percent. */
const askedBeforeSeconds = 1;
/**
 * Mappings that are longer than this many times what is in memory of them are sampled in vain: with 2,500 samples the standard
 * error is then a fifth of what is in memory, and grows with the root.
 */
const sparsest = 100;

/** Of one instance, in bytes; `at`: monotonic. */
export type Known = { readonly referenced: number; readonly idle: number; readonly at: number };

/** How long one measurement takes. */
export function sessionSeconds({ windows, windowSeconds }: Measured): number {
  return (windows + 1) * windowSeconds;
}

/** DAMON, which somebody else may take while nothing is measured, and may give back. */
export function createHold(
  { roots, clock, config }: SourceContext,
  take: typeof takeDamon,
  options: Measured,
) {
  let damon = take(roots, options);
  let isLost = false;
  let triedAt = 0;
  return {
    /** Null while it is somebody else's; tried anew now and then, once none is measured by what was ours (`isUnused`). */
    get: (isUnused: boolean): Damon | null => {
      if (!isLost) return damon;
      const now = clock.monotonicSeconds();
      if (!isUnused || now - triedAt < config.placementIntervalSeconds) return null;
      triedAt = now;
      try {
        damon.giveBack();
        damon = take(roots, options);
        isLost = false;
        return damon;
      } catch (error) {
        if (error instanceof SculptorError) return null;
        throw error;
      }
    },
    lose: (): void => {
      isLost = true;
    },
    stop: (): void => damon.giveBack(),
  };
}

/** Measures one process at a time by each kdamond. */
export function createMeasurement(
  { roots, clock }: SourceContext,
  mappings: MappingReader,
  options: Measured,
) {
  const { pause, stop } = createPauses(clock);
  const residentOf = (tgid: number) => readProcessMemory(roots, tgid)?.residentBytes ?? null;
  return {
    measure: async (
      by: Damon,
      kdamond: number,
      tgid: number,
    ): Promise<Known | 'ended' | 'too_sparse'> => {
      const begun = readTaskStat(roots, tgid);
      // Another may have its pid by then.
      const hasEnded = () => {
        const now = readTaskStat(roots, tgid);
        return now === null || now.startTicks !== begun?.startTicks;
      };
      try {
        const before = residentOf(tgid);
        const mapped = await mappings.of(tgid);
        if (before === null || mapped.length === 0) return 'ended';
        const ranges = joinRanges(mapped, options.parts);
        if (lengthOf(ranges) > sparsest * before) return 'too_sparse';
        await by.begin(kdamond, tgid, ranges);
        await pause(sessionSeconds(options) - askedBeforeSeconds);
        const { windows, usedBytes } = await by.ask(kdamond);
        if (windows === 0)
          throw new KernelInterfaceError('KERNEL_IO', 'DAMON has finished no window', { kdamond });
        const now = await mappings.of(tgid);
        const resident = residentOf(tgid);
        const fresh = newBytes(mapped, now);
        // It is another program by now, where nothing is left.
        if (resident === null || hasEnded() || fresh === lengthOf(now)) return 'ended';
        // Of what was mapped meanwhile nothing is known, and so nothing of it is idle. A sample may well find more than there is.
        const still = Math.min(before, resident - fresh);
        const idle = Math.max(0, still - Math.round(usedBytes / windows));
        return { referenced: resident - idle, idle, at: clock.monotonicSeconds() };
      } catch (error) {
        if (hasEnded()) return 'ended';
        throw error;
      } finally {
        await by.end(kdamond);
      }
    },
    stop,
  };
}
