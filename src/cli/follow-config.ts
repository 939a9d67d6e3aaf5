import { statSync } from 'node:fs';
import type { Config } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import type { Clock, Running, Say } from '../contract/ports.ts';

/** A configuration file, how it is loaded again, and what it looked like just before it was loaded first. */
export type ConfigSource = {
  readonly path: string;
  readonly load: () => Config;
  readonly look: FileLook;
};

/** Differs when a file was written, replaced, made or removed, or who may read it has changed. */
export type FileLook = string;

/** How often the file is looked at. It is taken when two looks found it the same: not in the middle of being written. */
const lookSeconds = 1;

/**
 * Loads the configuration again when its file does not look as it did, and at SIGHUP where that does not mean that the terminal
 * is gone, and hands it to `apply`. What is wrong with it, or refused, is said, and what held before goes on.
 */
export function followConfig(options: {
  readonly source: ConfigSource;
  readonly apply: (loaded: Config) => void;
  /** Whether SIGHUP is a wish to load again. */
  readonly atHangup: boolean;
  readonly clock: Clock;
  readonly say: Say;
}): Running {
  const { source, apply, atHangup, clock, say } = options;
  let loaded = source.look;
  let seen = loaded;
  const reload = (): void => {
    loaded = lookAt(source.path);
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
  const compare = (): void => {
    const before = seen;
    seen = lookAt(source.path);
    if (seen !== loaded && seen === before) reload();
  };
  if (atHangup) process.on('SIGHUP', reload);
  compare();
  const cancel = clock.every(lookSeconds, compare);
  return {
    stop: async () => {
      process.off('SIGHUP', reload);
      cancel();
    },
  };
}

/** What `followConfig` compares; of a file that cannot be looked at, why. */
export function lookAt(path: string): FileLook {
  try {
    const { ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
