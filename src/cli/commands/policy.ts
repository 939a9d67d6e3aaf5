import type { Command } from 'commander';
import { stringify } from 'yaml';
import { askParts } from '../ask.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';

/** `sculpt policy show`: the policy that holds now, defaults included. */
export function addPolicy(program: Command, print: Print): void {
  const show = program
    .command('policy')
    .description('what the sculptor is allowed to do')
    .command('show')
    .description('the policy that holds now, with every default')
    .option('--json', 'as JSON');
  withCommonOptions(show).action(async (options: CommonOptions & { json?: true }) => {
    const policy = await askParts(configOf(options)).policy();
    print(options.json ? JSON.stringify(policy, null, 2) : stringify(policy).trimEnd());
  });
}
