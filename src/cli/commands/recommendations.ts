import type { Command } from 'commander';
import type { Recommendation } from '../../contract/recommendation.ts';
import { askParts } from '../ask.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';
import { formatTable } from '../table.ts';
import { agoWords, percentWords } from '../words.ts';
import { moveSetWords } from './actions.ts';

/** `sculpt recommendations`: what the engine recommended lately. */
export function addRecommendations(program: Command, print: Print): void {
  const command = program
    .command('recommendations')
    .description('what the engine recommended lately, and what it expects of it')
    .option('--json', 'as JSON');
  withCommonOptions(command).action(async (options: CommonOptions & { json?: true }) => {
    const found = await askParts(configOf(options)).recommendations();
    print(
      options.json
        ? JSON.stringify(found, null, 2)
        : formatRecommendations(found, Date.now() / 1000),
    );
  });
}

/** A table. `now` in seconds since the epoch. */
export function formatRecommendations(found: readonly Recommendation[], now: number): string {
  if (found.length === 0)
    return 'Nothing was recommended lately. `sculpt status` says what is thought of each instance.';
  return formatTable(
    [
      { title: 'ID', of: r => r.id },
      { title: 'WHEN', of: r => agoWords(r.created, now) },
      { title: 'FOR', of: r => r.beneficiary.id },
      { title: 'WHAT', of: r => whatWords(r) },
      { title: 'GAIN', right: true, of: r => percentWords(r.predicted.gainRatio) },
      { title: 'OTHERS LOSE', right: true, of: r => percentWords(worstLoss(r)) },
      { title: 'WHY', of: r => r.evidence.summary },
    ],
    found,
  );
}

function whatWords({ moves, renews }: Recommendation): string {
  const [first, ...more] = moves;
  const text = first ? `${first.instance.name} ${moveSetWords(first.set)}` : '–';
  return `${renews === undefined ? '' : 'renew: '}${text}${more.length > 0 ? ` and ${more.length} more` : ''}`;
}

function worstLoss({ cost }: Recommendation): number {
  return Math.max(0, ...cost.map(each => each.lossRatio));
}
