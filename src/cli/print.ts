import { ConfigError, describeError } from '../contract/errors.ts';
import { printable } from './printable.ts';

/** Writes one piece of a command's answer to standard output, and a newline. */
export type Print = (text: string) => void;

export type Answer = {
  readonly print: Print;
  /**
   * Resolves when all is written. Whoever reads may have seen enough (`| head`): that is no failure.
   * @throws ConfigError CONFIG_OUTPUT
   */
  readonly written: () => Promise<void>;
};

/** A command's answer; a daemon, which has none, does not touch standard output. */
export function createAnswer(): Answer {
  const writes: Promise<NodeJS.ErrnoException | null | undefined>[] = [];
  return {
    print: text => {
      const { stdout } = process;
      if (stdout.listenerCount('error') === 0) stdout.on('error', () => undefined);
      writes.push(new Promise(resolve => stdout.write(`${printable(text)}\n`, resolve)));
    },
    written: async () => {
      const failure = (await Promise.all(writes)).find(error => error && error.code !== 'EPIPE');
      if (failure)
        throw new ConfigError(
          'CONFIG_OUTPUT',
          `standard output: the answer is not whole: ${describeError(failure)}`,
          {},
          failure,
        );
    },
  };
}
