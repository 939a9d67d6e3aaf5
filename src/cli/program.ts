import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import * as z from 'zod';
import { addActions } from './commands/actions.ts';
import { addDaemons } from './commands/daemons.ts';
import { addDemo } from './commands/demo.ts';
import { addDoctor } from './commands/doctor.ts';
import { addKeys } from './commands/keys.ts';
import { addMode } from './commands/mode.ts';
import { addPolicy } from './commands/policy.ts';
import { addRecommendations } from './commands/recommendations.ts';
import { addRestore } from './commands/restore.ts';
import { addSettings } from './commands/settings.ts';
import { addStatus } from './commands/status.ts';
import { addUp } from './commands/up.ts';
import type { Print } from './print.ts';

/** The command line. Every command throws what goes wrong; nothing here ends the process. */
export function createProgram(print: Print): Command {
  const program = new Command('sculpt')
    .description(
      'Sees scheduler contention through eBPF, forecasts it, moves what helps, measures that it did, and gives it back.',
    )
    .version(packageVersion())
    .showHelpAfterError('(sculpt --help shows every command)')
    .configureOutput({
      writeOut: text => print(text.trimEnd()),
      outputError: (text, write) => write(text.replace(/^error: /, 'sculpt: ')),
    })
    .exitOverride();
  addUp(program);
  addDaemons(program);
  addStatus(program, print);
  addRecommendations(program, print);
  addActions(program, print);
  addPolicy(program, print);
  addMode(program, print);
  addSettings(program, print);
  addRestore(program, print);
  addDoctor(program, print);
  addKeys(program, print);
  addDemo(program, print);
  return program;
}

function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version;
}
