import type { Running, Say } from '../contract/ports.ts';
import { printable } from './printable.ts';

/** Parts in the order in which they are stopped. */
export type Started = { readonly name: string; readonly part: Running };

/** Node holds in memory what a pipe does not take. */
const mostUnreadBytes = 1_048_576;

/**
 * One line on standard error for each thing that is said; those that follow it are set in, so that no name can begin one. Whoever
 * reads it may go away (`| head`, a logger that ends, a terminal that is closed), or read no further (`| less`, a logger that hangs):
 * what is said then is lost, and nothing else.
 */
export const sayOnStderr: Say = (level, message) => {
  const { stderr } = process;
  // Without a listener the failed write would end the process there and then, and nothing would be given back.
  if (stderr.listenerCount('error') === 0) stderr.on('error', () => undefined);
  if (stderr.writableLength > mostUnreadBytes) return;
  const text = printable(message).replaceAll('\n', '\n  ');
  stderr.write(`${level === 'info' ? '' : `${level}: `}${text}\n`);
};

/** Whether somebody looks at what is said, so that SIGHUP means that they are gone. */
export function hasTerminal(): boolean {
  return process.stderr.isTTY === true;
}

/**
 * For who takes SIGHUP for a wish to load the configuration again, before it has one: without this it would end the process, and for a
 * service manager that is an end as wanted. Nothing is missed by it: what has changed by then is seen by itself. With a terminal it is
 * the terminal's end, and does end it.
 */
export function outliveHangups(): void {
  if (!hasTerminal()) process.on('SIGHUP', () => undefined);
}

/**
 * Resolves at the first SIGINT, SIGTERM or end of the terminal; where asked for, at the end of standard input. SIGHUP without a
 * terminal is that too where nobody takes it for a wish to load the configuration again: else it would end the process at once.
 */
export function untilStopped(
  options: { stdinEnd?: boolean; reloads?: boolean } = {},
): Promise<string> {
  return new Promise(resolve => {
    process.once('SIGINT', () => resolve('SIGINT'));
    process.once('SIGTERM', () => resolve('SIGTERM'));
    // Not once: the kernel and the shell send it both, and the second must not end what gives everything back.
    if (hasTerminal() || options.reloads !== true) process.on('SIGHUP', () => resolve('SIGHUP'));
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
