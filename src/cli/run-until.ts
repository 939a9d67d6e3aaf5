import type { Running, Say } from '../contract/ports.ts';

/** Parts in the order in which they are stopped. */
export type Started = { readonly name: string; readonly part: Running };

/** One line on standard error for each thing that is said. */
export const sayOnStderr: Say = (level, message) =>
  void process.stderr.write(`${level === 'info' ? '' : `${level}: `}${message}\n`);

/** Resolves at the first SIGINT or SIGTERM, or, where asked for, at the end of standard input. */
export function untilStopped(options: { stdinEnd?: boolean } = {}): Promise<string> {
  return new Promise(resolve => {
    process.once('SIGINT', () => resolve('SIGINT'));
    process.once('SIGTERM', () => resolve('SIGTERM'));
    if (options.stdinEnd === true)
      process.stdin.once('end', () => resolve('the end of standard input')).resume();
  });
}

/** Stops all, one after another; one that fails does not keep the next from being stopped. @throws the first failure */
export async function stopAll(started: readonly Started[], say: Say): Promise<void> {
  const failures: unknown[] = [];
  for (const { name, part } of started) {
    try {
      await part.stop();
    } catch (error) {
      say('error', `${name} did not stop cleanly: ${String(error)}`);
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
