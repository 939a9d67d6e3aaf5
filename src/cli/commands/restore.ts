import type { Command } from 'commander';
import { configSchema } from '../../contract/config.ts';
import { ConfigError } from '../../contract/errors.ts';
import { loadNative } from '../../linux/native.ts';
import { hostRoots } from '../../linux/roots.ts';
import { type RestoreReport, restoreAll } from '../../sculptor/restore.ts';
import { NegativeAnswer } from '../failure.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';
import { requirePrivilege } from '../privilege.ts';
import { sayOnStderr } from '../run-until.ts';

type RestoreOptions = CommonOptions & { readonly json?: true; readonly journal?: string };

/** `sculpt restore`: undoes everything that the journal shows as open, with nothing else running. Exit code 1 when something could not be. */
export function addRestore(program: Command, print: Print): void {
  const command = program
    .command('restore')
    .description('undo everything that the journal shows as open; needs no other part')
    .option(
      '--journal <file>',
      'this journal; the configuration is not read then, which may be what is broken',
    )
    .option('--json', 'as JSON');
  withCommonOptions(command).action(async (options: RestoreOptions) => {
    const journal = options.journal ?? journalOf(options);
    requirePrivilege('restore');
    const report = restoreAll({
      journal,
      native: loadNative(),
      roots: hostRoots,
      say: sayOnStderr,
    });
    print(options.json ? JSON.stringify(report, null, 2) : restoreSentence(report, journal));
    if (report.failed > 0) throw new NegativeAnswer();
  });
}

/** @throws ConfigError, with the way around it: a mistake in the file, in whatever section, must not keep what is held. */
function journalOf(options: CommonOptions): string {
  try {
    return configOf(options).sculptor.journal;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const { journal } = configSchema.parse({}).sculptor;
    const message = `${error.message}\n  without it: sculpt restore --journal FILE (${journal} where nothing else was said)`;
    throw new ConfigError(error.code, message, error.context, error);
  }
}

/** Names the journal: with another configuration than the sculptor's it is another one. */
export function restoreSentence(
  { actions, restored, gone, yielded, failed }: RestoreReport,
  journal: string,
): string {
  if (actions.length === 0)
    return `Nothing to restore: the journal ${journal} shows no open action.`;
  const parts = [
    `${restored} values restored`,
    gone > 0 ? `${gone} of what has ended` : '',
    yielded > 0 ? `${yielded} left, because somebody else changed them since` : '',
    failed > 0 ? `${failed} FAILED: run it again, or see the messages above` : '',
  ];
  const text = parts.filter(part => part !== '').join(', ');
  return `${actions.length} open actions: ${text} (journal ${journal}).`;
}
