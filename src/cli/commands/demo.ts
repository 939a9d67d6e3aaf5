import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { SculptorError } from '../../contract/errors.ts';
import { runDemo } from '../demo/demo.ts';
import { renderReport } from '../demo/report/html.ts';
import { timelineOf } from '../demo/report/timeline.ts';
import { type DemoResult, failuresOf } from '../demo/result.ts';
import { workloadCycleSeconds } from '../demo/tenants.ts';
import { formatDemo } from '../demo/terminal.ts';
import { NegativeAnswer } from '../failure.ts';
import type { Print } from '../print.ts';
import { requirePrivilege } from '../privilege.ts';

type DemoOptions = { readonly report: string; readonly json?: true };

/** `sculpt demo`: stages contention, lets the real loop see it and act, shows what that brought, puts everything back. */
export function addDemo(program: Command, print: Print): void {
  program
    .command('demo')
    .description(
      'stage two scenes of contention, let the loop act on them, show the result (2 minutes)',
    )
    .option('--report <file>', 'where the HTML report goes', './sculptor-demo-report.html')
    .option('--json', 'as JSON')
    .action(async ({ report, json }: DemoOptions) => {
      requirePrivilege('demo');
      const interrupted = new AbortController();
      for (const name of ['SIGINT', 'SIGTERM'] as const)
        process.once(name, () =>
          interrupted.abort(
            new SculptorError('DEMO_FAILED', `stopped by ${name}; everything is put back`),
          ),
        );
      const began = performance.now();
      const tell = (line: string) =>
        void process.stderr.write(
          `${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${line}\n`,
        );
      const result = await runDemo(tell, interrupted.signal);
      const file = writeReport(result, report);
      print(json ? JSON.stringify(result, null, 2) : `\n${formatDemo(result)}\nReport: ${file}`);
      if (failuresOf(result).length > 0) throw new NegativeAnswer();
    });
}

function writeReport(result: DemoResult, path: string): string {
  const file = resolve(path);
  const timeline = timelineOf(readFileSync(result.rawFile, 'utf8'), workloadCycleSeconds);
  writeFileSync(file, renderReport(result, timeline));
  return file;
}
