import { CommanderError } from 'commander';
import { ConfigError, SculptorError } from '../contract/errors.ts';

/** A command that did its work and whose answer is "no": it has printed everything already. */
export class NegativeAnswer extends Error {}

/** 2 for what the user must change (usage, configuration), 1 for everything else; 0 for help and version. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof ConfigError) return unreachable.has(error.code) ? 1 : 2;
  return 1;
}

/** Configuration errors that are about what runs, and not about what was written. */
const unreachable: ReadonlySet<string> = new Set(['CONFIG_NOT_RUNNING', 'CONFIG_REFUSED']);

/**
 * What a person reads: one line with the code, and a line with what to do where that is known. Errors of ours carry no
 * stack trace; one that nobody expected is named as such. Commander has printed its own already: empty text.
 */
export function formatFailure(error: unknown, debug: boolean): string {
  if (error instanceof CommanderError || error instanceof NegativeAnswer) return '';
  if (error instanceof SculptorError) {
    const line = `sculpt: ${error.code}: ${error.message}`;
    return debug ? `${line}\n${error.stack ?? ''}` : line;
  }
  const message = error instanceof Error ? error.message : String(error);
  const stack = debug && error instanceof Error ? `\n${error.stack ?? ''}` : '';
  const hint = stack === '' ? '\n  this is a defect; SCULPT_DEBUG=1 shows where it happened' : '';
  return `sculpt: unexpected: ${message}${hint}${stack}`;
}
