import { type Command, InvalidArgumentError } from 'commander';
import { type Mode, modeSchema } from '../../contract/policy.ts';
import { askParts, orNull, type Parts } from '../ask.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';

type ModeAnswer = { readonly mode: Mode; readonly ceiling: Mode; readonly stamp: Mode | null };

/** `sculpt mode [MODE]`: the ceiling of the sculptor (journalled), and under `sculpt up` the stamp of its pipeline as well. */
export function addMode(program: Command, print: Print): void {
  const command = program
    .command('mode')
    .description('show the mode, or set it: off, observe, approve, enforce')
    .argument(
      '[mode]',
      'the new ceiling; under `sculpt up` the stamp as well, until it is started again (pipeline.mode is for good)',
      parseMode,
    )
    .option('--json', 'as JSON');
  withCommonOptions(command).action(
    async (mode: Mode | undefined, options: CommonOptions & { json?: true }) => {
      const parts = askParts(configOf(options));
      if (mode !== undefined) {
        await parts.setCeiling(mode);
        await orNull(parts.setStamp(mode));
      }
      const answer = await readMode(parts);
      print(options.json ? JSON.stringify(answer, null, 2) : modeSentence(answer, mode));
    },
  );
}

function parseMode(text: string): Mode {
  const result = modeSchema.safeParse(text);
  if (result.success) return result.data;
  throw new InvalidArgumentError(`wanted one of ${modeSchema.options.join(', ')}.`);
}

async function readMode(parts: Parts): Promise<ModeAnswer> {
  const { mode, ceiling } = await parts.sculptorStatus();
  const pipeline = await orNull(parts.pipelineStatus());
  return { mode, ceiling, stamp: pipeline?.mode ?? null };
}

export function modeSentence({ mode, ceiling, stamp }: ModeAnswer, wanted?: Mode): string {
  const source = stamp === null ? 'the stamp is the collector’s' : `stamp ${stamp}`;
  const line = `mode ${mode} (ceiling ${ceiling}, ${source})`;
  if (wanted === undefined || mode === wanted) return line;
  return stamp === null
    ? `${line}\n  the stamp in the collector's configuration is stricter, or no heartbeat has come yet`
    : `${line}\n  the next heartbeat, within a second, brings the new stamp`;
}
