import type { Command } from 'commander';
import type { Action } from '../../contract/action.ts';
import { askParts } from '../ask.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';
import { formatTable } from '../table.ts';
import { agoWords, percentWords } from '../words.ts';

/** `sculpt actions` and `sculpt approve ID`: what the sculptor does and did, and the yes of a person. */
export function addActions(program: Command, print: Print): void {
  const actions = program
    .command('actions')
    .description('what the sculptor does and did, newest first')
    .option('--json', 'as JSON');
  withCommonOptions(actions).action(async (options: CommonOptions & { json?: true }) => {
    const found = await askParts(configOf(options)).actions();
    print(options.json ? JSON.stringify(found, null, 2) : formatActions(found, Date.now() / 1000));
  });

  const approve = program
    .command('approve')
    .description('say yes to an action that waits for it (mode approve)')
    .argument('<id>', 'id of the action, as `sculpt actions` shows it')
    .option('--json', 'as JSON');
  withCommonOptions(approve).action(
    async (id: string, options: CommonOptions & { json?: true }) => {
      await askParts(configOf(options)).approve(id);
      print(
        options.json
          ? JSON.stringify({ approved: id })
          : `${id}: approved; \`sculpt actions\` shows what became of it`,
      );
    },
  );
}

/** A table, newest first. `now` in seconds since the epoch. */
export function formatActions(actions: readonly Action[], now: number): string {
  if (actions.length === 0) return 'No actions yet: nothing was recommended to this sculptor.';
  return formatTable(
    [
      { title: 'ID', of: a => a.id },
      { title: 'STATE', of: a => a.state },
      { title: 'WHEN', of: a => agoWords(a.at, now) },
      { title: 'FOR', of: a => a.beneficiary?.id ?? '–' },
      { title: 'PREDICTED', right: true, of: a => gain(a.predicted?.gainRatio) },
      { title: 'REALISED', right: true, of: a => gain(a.realised?.gainRatio) },
      { title: 'WHAT', of: a => what(a) },
      { title: 'WHY', of: a => (a.reason ? `${a.reason.code}: ${a.reason.message}` : '–') },
    ],
    actions,
  );
}

function gain(ratio: number | undefined): string {
  return ratio === undefined ? '–' : percentWords(ratio);
}

function what({ moves }: Action): string {
  const [first, ...more] = moves;
  if (!first) return '–';
  const text = `${first.instance.name} ${moveSetWords(first.set)}`;
  return more.length > 0 ? `${text} and ${more.length} more` : text;
}

/** `weight 1600`, `cpus 0,1`, `idle`. */
export function moveSetWords(set: Action['moves'][number]['set']): string {
  if ('cpus' in set) return `cpus ${set.cpus.join(',')}`;
  if ('weight' in set) return `weight ${set.weight}`;
  if ('idle' in set) return set.idle ? 'idle' : 'not idle';
  if ('sliceSeconds' in set) return `slice ${set.sliceSeconds * 1e3} ms`;
  return `memory nodes ${set.memoryNodes.join(',')}`;
}
