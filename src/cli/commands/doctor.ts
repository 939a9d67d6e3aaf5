import { type Command, Option } from 'commander';
import { defaultConfigPath, loadConfig } from '../config-file.ts';
import { NegativeAnswer } from '../failure.ts';
import type { Print } from '../print.ts';

type DoctorOptions = {
  readonly json?: true;
  readonly config?: string;
  readonly user?: string;
  readonly asAgent?: true;
};

/**
 * `sculpt doctor`: what this machine has, what is lost without the rest, and how to get it. Exit code 1 when the main job cannot
 * run; without the addon, and where the configuration does without it, when the agent cannot.
 */
export function addDoctor(program: Command, print: Print): void {
  program
    .command('doctor')
    .description('what works on this machine, what is missing, what that costs, how to get it')
    .option('--json', 'as JSON')
    .option('--config <file>', `configuration (default: ${defaultConfigPath} where it is there)`)
    .option('--user <user>', 'as the agent that becomes this user, instead of agent.user')
    .addOption(
      new Option('--as-agent', 'what a process finds that is what the agent is').hideHelp(),
    )
    .action(async ({ json, config: path, user, asAgent }: DoctorOptions) => {
      // What is only asked for here is loaded here: a daemon holds nothing of it in memory.
      const { canRun } = await import('../doctor/check.ts');
      const { checkHost } = await import('../doctor/host-checks.ts');
      const { checkKernel, doesWithoutAddon } = await import('../doctor/kernel-checks.ts');
      const { thisMachine } = await import('../doctor/machine.ts');
      const { formatDoctor } = await import('../doctor/report.ts');
      const { checkAgent, checkAsAgent } = await import('../doctor/agent-checks.ts');
      const config = loadConfig(path);
      if (asAgent) {
        print(JSON.stringify(await checkAsAgent(thisMachine, config, user)));
        return;
      }
      const command = [
        process.execPath,
        ...process.execArgv,
        ...process.argv.slice(1),
        '--as-agent',
      ];
      const kernel = checkKernel(thisMachine, config);
      const isAgentAlone = doesWithoutAddon(kernel);
      const [own, ...sources] = checkAgent(config, user, command);
      const checks = [
        ...kernel,
        { ...own, needed: isAgentAlone },
        ...sources,
        ...checkHost(thisMachine),
      ];
      const ok = canRun(checks);
      print(json ? JSON.stringify({ canRun: ok, checks }, null, 2) : formatDoctor(checks));
      if (!ok) throw new NegativeAnswer();
    });
}
