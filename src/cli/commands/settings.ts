import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { parse, stringify } from 'yaml';
import { askParts } from '../ask.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';

type Change = Record<string, unknown>;

/** `sculpt settings [KEY=VALUE…]`: what an agent that runs tells, how finely and how often. */
export function addSettings(program: Command, print: Print): void {
  const command = program
    .command('settings')
    .description(
      'show the settings of the agent that runs, or change some: hotTasks=20 profile=full',
    )
    .argument(
      '[key=value...]',
      'such as metrics.exclude=[sculptor.memory.dirty]; values as in the configuration file',
      addSetting,
    )
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
What is set holds until the agent is started again, or takes up its configuration file with other settings in
its section agent: these then replace all that was set live, and the agent says which. To keep it, write it there.`,
    );
  withCommonOptions(command).action(
    async (change: Change | readonly [] | undefined, options: CommonOptions & { json?: true }) => {
      const parts = askParts(configOf(options));
      const isChange = change !== undefined && !Array.isArray(change);
      const settings = isChange
        ? await parts.changeAgentSettings(change as Change)
        : await parts.agentSettings();
      print(options.json ? JSON.stringify(settings, null, 2) : stringify(settings).trimEnd());
    },
  );
}

/** `a.b=VALUE`, VALUE being YAML, put into what came before. */
export function addSetting(text: string, before: Change = {}): Change {
  const [, path, value] = /^([\w.]+)=(.*)$/s.exec(text) ?? [];
  if (path === undefined || value === undefined)
    throw new InvalidArgumentError('wanted KEY=VALUE.');
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  const change = { ...before };
  let at = change;
  for (const key of keys) {
    const inner = { ...(at[key] as Change | undefined) };
    at[key] = inner;
    at = inner;
  }
  at[last] = parseValue(value);
  return change;
}

function parseValue(text: string): unknown {
  try {
    return parse(text) as unknown;
  } catch (error) {
    const [line = ''] = String((error as Error).message).split('\n');
    throw new InvalidArgumentError(`wanted YAML behind the "=": ${line.replace(/:$/, '')}.`);
  }
}
