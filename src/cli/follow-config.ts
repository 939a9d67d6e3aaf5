import { unwatchFile, watchFile } from 'node:fs';
import type { Config } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import type { Cancel, Clock, Running, Say } from '../contract/ports.ts';

/** A configuration file, and how it is loaded again. */
export type ConfigSource = { readonly path: string; readonly load: () => Config };

const lookSeconds = 1;
/** So that a file is not read in the middle of being written. */
const settleSeconds = 0.3;

/**
 * Loads the configuration again at SIGHUP and when its file has changed, and hands it to `apply`. What is wrong with it, or
 * refused, is said, and what held before goes on.
 */
export function followConfig(options: {
  readonly source: ConfigSource;
  readonly apply: (loaded: Config) => void;
  readonly clock: Clock;
  readonly say: Say;
}): Running {
  const { source, apply, clock, say } = options;
  const reload = (): void => {
    try {
      apply(source.load());
      say('info', `agent: ${source.path} is loaded again`);
    } catch (error) {
      say(
        'error',
        `agent: ${source.path} is not taken, what held before goes on: ${describeError(error)}`,
      );
    }
  };
  let settling: Cancel = () => undefined;
  const changed = (now: { mtimeMs: number; ino: number }, before: typeof now): void => {
    if (now.mtimeMs === before.mtimeMs && now.ino === before.ino) return;
    settling();
    settling = clock.after(settleSeconds, reload);
  };
  process.on('SIGHUP', reload);
  watchFile(source.path, { interval: lookSeconds * 1000, persistent: false }, changed);
  return {
    stop: async () => {
      process.off('SIGHUP', reload);
      unwatchFile(source.path, changed);
      settling();
    },
  };
}
