import type { Command } from 'commander';
import type { DemoOptions } from '../demo/command.ts';
import type { Print } from '../print.ts';
import { requirePrivilege } from '../privilege.ts';

/** `sculpt demo`: stages contention, lets the real loop see it and act, shows what that brought, puts everything back. */
export function addDemo(program: Command, print: Print): void {
  program
    .command('demo')
    .description('stage two scenes of contention, let the loop act on them, show the result (70 s)')
    .option('--report <file>', 'where the HTML report goes', './sculptor-demo-report.html')
    .option('--json', 'as JSON')
    .action(async (options: DemoOptions) => {
      requirePrivilege('demo');
      // A daemon is no demo: it holds nothing of it in memory.
      const { demo } = await import('../demo/command.ts');
      await demo(options, print);
    });
}
