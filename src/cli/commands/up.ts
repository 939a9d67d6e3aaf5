import type { Command } from 'commander';
import { type CommonOptions, configOf, configSourceOf, withCommonOptions } from '../options.ts';
import { raisePriority } from '../priority.ts';
import { requirePrivilege } from '../privilege.ts';
import { outliveHangups, sayOnStderr, untilStopped } from '../run-until.ts';

/** `sculpt up`: the whole loop in one process, until it is told to stop; then everything is given back. */
export function addUp(program: Command): void {
  const command = program
    .command('up')
    .description('run agent, pipeline, engine and sculptor in one process (mode observe at first)')
    .option('--until-stdin-ends', 'also stop when standard input ends');
  withCommonOptions(command).action(
    async (options: CommonOptions & { untilStdinEnds?: boolean }) => {
      outliveHangups();
      const source = configSourceOf(options);
      const config = configOf(options);
      requirePrivilege('up');
      if (config.agent.user !== undefined)
        sayOnStderr(
          'warn',
          'up: agent.user holds for `sculpt agent` only: all parts are one process',
        );
      raisePriority(config.nice, (level, text) => sayOnStderr(level, `up: ${text}`));
      const stopped = untilStopped({
        stdinEnd: options.untilStdinEnds === true,
        reloads: true,
      });
      // Loaded here: the commands that only ask need neither gRPC nor ONNX.
      const [{ createContext }, { startUp }] = await Promise.all([
        import('../parts.ts'),
        import('../up.ts'),
      ]);
      const running = await startUp(createContext({ config, say: sayOnStderr, source }));
      sayOnStderr(
        'info',
        `up: mode ${config.pipeline.mode}; \`sculpt mode enforce\` lets it act until it is started again`,
      );
      sayOnStderr('info', `up: stopping after ${await stopped}: everything is given back first`);
      await running.stop();
    },
  );
}
