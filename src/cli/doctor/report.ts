import { formatTable } from '../table.ts';
import { type Check, canRun } from './check.ts';
import { doesWithoutAddon } from './kernel-checks.ts';

/** The checks as a table, then what is lost and how to get it, then the verdict. */
export function formatDoctor(checks: readonly Check[]): string {
  const table = formatTable(
    [
      { title: 'CHECK', of: c => c.name },
      { title: 'STATE', of: c => c.state },
      { title: 'FOUND', of: c => c.found },
    ],
    checks,
  );
  const losses = checks.filter(c => c.state === 'missing').map(formatLoss);
  const verdict = canRun(checks)
    ? doesWithoutAddon(checks)
      ? 'As it is configured the agent can run here, without the addon: sculpt agent. What acts, and so sculpt up, cannot'
      : 'The main job can run here: sculpt up'
    : `The main job cannot run here: ${checks
        .filter(c => c.needed && c.state !== 'works')
        .map(c => c.name)
        .join(', ')}`;
  return [table, ...losses, verdict].join('\n\n');
}

function formatLoss({ name, needed, lost, how }: Check): string {
  const lines = [`${name}${needed ? ' (needed)' : ''}`, `  lost without it: ${lost ?? 'nothing'}`];
  if (how !== null) lines.push(`  how to get it:   ${how}`);
  return lines.join('\n');
}
