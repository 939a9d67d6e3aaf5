import type { Command } from 'commander';
import { NegativeAnswer } from '../failure.ts';
import type { Print } from '../print.ts';

/** `sculpt doctor`: what this machine has, what is lost without the rest, and how to get it. Exit code 1 when the main job cannot run. */
export function addDoctor(program: Command, print: Print): void {
  program
    .command('doctor')
    .description('what works on this machine, what is missing, what that costs, how to get it')
    .option('--json', 'as JSON')
    .action(async ({ json }: { json?: true }) => {
      // What is only asked for here is loaded here: a daemon holds nothing of it in memory.
      const { canRun } = await import('../doctor/check.ts');
      const { checkHost } = await import('../doctor/host-checks.ts');
      const { checkKernel } = await import('../doctor/kernel-checks.ts');
      const { thisMachine } = await import('../doctor/machine.ts');
      const { formatDoctor } = await import('../doctor/report.ts');
      const checks = [...checkKernel(thisMachine), ...checkHost(thisMachine)];
      const ok = canRun(checks);
      print(json ? JSON.stringify({ canRun: ok, checks }, null, 2) : formatDoctor(checks));
      if (!ok) throw new NegativeAnswer();
    });
}
