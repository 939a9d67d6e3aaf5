import { closeSync, lstatSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { ConfigError, SculptorError } from '../../contract/errors.ts';
import { NegativeAnswer } from '../failure.ts';
import type { Print } from '../print.ts';
import { sayOnStderr } from '../run-until.ts';
import { runDemo } from './demo.ts';
import { renderReport } from './report/html.ts';
import { timelineOf } from './report/timeline.ts';
import { type DemoResult, failuresOf } from './result.ts';
import { workloadCycleSeconds } from './tenants.ts';
import { formatDemo } from './terminal.ts';

export type DemoOptions = { readonly report: string; readonly json?: true };

/**
 * The whole demo: staged, measured, printed, and reported in a file. SIGINT and SIGTERM end it, with everything put back.
 * @throws ConfigError CONFIG_OUTPUT before anything is staged
 */
export async function demo({ report, json }: DemoOptions, print: Print): Promise<void> {
  mustTake(report);
  const interrupted = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () =>
      interrupted.abort(
        new SculptorError('DEMO_FAILED', `stopped by ${name}; everything is put back`),
      ),
    );
  const began = performance.now();
  const tell = (line: string) =>
    sayOnStderr(
      'info',
      `${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${line}`,
    );
  const result = await runDemo(tell, interrupted.signal);
  const file = writeReport(result, report);
  print(json ? JSON.stringify(result, null, 2) : `\n${formatDemo(result)}\nReport: ${file}`);
  if (failuresOf(result).length > 0) throw new NegativeAnswer();
}

/** Found out by opening it: root may what a mode forbids, and not what the file system does. */
function mustTake(path: string): void {
  try {
    const isNew = lstatSync(path, { throwIfNoEntry: false }) === undefined;
    closeSync(openSync(path, 'a'));
    if (isNew) unlinkSync(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ConfigError(
      'CONFIG_OUTPUT',
      `--report ${path}: wanted a file that can be written, got ${code}`,
      { path },
      cause,
    );
  }
}

function writeReport(result: DemoResult, path: string): string {
  const file = resolve(path);
  const timeline = timelineOf(readFileSync(result.rawFile, 'utf8'), workloadCycleSeconds);
  writeFileSync(file, renderReport(result, timeline));
  return file;
}
