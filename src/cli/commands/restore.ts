import type { Command } from 'commander';
import { loadNative } from '../../linux/native.ts';
import { hostRoots } from '../../linux/roots.ts';
import { type RestoreReport, restoreAll } from '../../sculptor/restore.ts';
import { NegativeAnswer } from '../failure.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';
import { requirePrivilege } from '../privilege.ts';
import { sayOnStderr } from '../run-until.ts';

/** `sculpt restore`: undoes everything that the journal shows as open, with nothing else running. Exit code 1 when something could not be. */
export function addRestore(program: Command, print: Print): void {
  const command = program
    .command('restore')
    .description('undo everything that the journal shows as open; needs no other part')
    .option('--json', 'as JSON');
  withCommonOptions(command).action(async (options: CommonOptions & { json?: true }) => {
    const { journal } = configOf(options).sculptor;
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
