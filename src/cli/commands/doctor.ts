import type { Command } from 'commander';
import { canRun } from '../doctor/check.ts';
import { checkHost } from '../doctor/host-checks.ts';
import { checkKernel } from '../doctor/kernel-checks.ts';
import { thisMachine } from '../doctor/machine.ts';
import { formatDoctor } from '../doctor/report.ts';
import { NegativeAnswer } from '../failure.ts';
import type { Print } from '../print.ts';

/** `sculpt doctor`: what this machine has, what is lost without the rest, and how to get it. Exit code 1 when the main job cannot run. */
export function addDoctor(program: Command, print: Print): void {
  program
    .command('doctor')
    .description('what works on this machine, what is missing, what that costs, how to get it')
    .option('--json', 'as JSON')
    .action(({ json }: { json?: true }) => {
      const checks = [...checkKernel(thisMachine), ...checkHost(thisMachine)];
      const ok = canRun(checks);
      print(json ? JSON.stringify({ canRun: ok, checks }, null, 2) : formatDoctor(checks));
      if (!ok) throw new NegativeAnswer();
    });
}
