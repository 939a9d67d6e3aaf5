import type { Command } from 'commander';
import type { z } from 'zod';
import {
  type agentStatusSchema,
  askParts,
  type engineStatusSchema,
  type Guest,
  orNull,
  type pipelineStatusSchema,
  type sculptorStatusSchema,
  type Verdict,
} from '../ask.ts';
import { NegativeAnswer } from '../failure.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { Print } from '../print.ts';
import { formatFields, formatTable } from '../table.ts';
import { durationWords } from '../words.ts';

export type Status = {
  readonly agent: z.infer<typeof agentStatusSchema> | null;
  readonly pipeline: z.infer<typeof pipelineStatusSchema> | null;
  readonly engine: z.infer<typeof engineStatusSchema> | null;
  readonly sculptor: z.infer<typeof sculptorStatusSchema> | null;
  readonly verdicts: readonly Verdict[];
};

/** `sculpt status`: what runs, in which mode, what is lost, and what the engine thinks of each instance. Exit code 1 when nothing runs. */
export function addStatus(program: Command, print: Print): void {
  const command = program
    .command('status')
    .description('what runs, in which mode, and what is thought of each instance')
    .option('--json', 'as JSON');
  withCommonOptions(command).action(async (options: CommonOptions & { json?: true }) => {
    const parts = askParts(configOf(options));
    const status: Status = {
      agent: await orNull(parts.agentStatus()),
      pipeline: await orNull(parts.pipelineStatus()),
      engine: await orNull(parts.engineStatus()),
      sculptor: await orNull(parts.sculptorStatus()),
      verdicts: (await orNull(parts.verdicts())) ?? [],
    };
    print(options.json ? JSON.stringify(status, null, 2) : formatStatus(status));
    if (!status.agent && !status.engine && !status.sculptor) throw new NegativeAnswer();
  });
}

export function formatStatus(status: Status): string {
  const { agent, pipeline, engine, sculptor, verdicts } = status;
  if (!agent && !engine && !sculptor)
    return 'Nothing runs here.\n  sculpt up       runs all of it in one process\n  sculpt doctor   says what works on this machine';
  const fields = formatFields([
    ['mode', sculptor ? modeWords(sculptor, pipeline?.mode) : 'no sculptor: nothing can be moved'],
    ['agent', agent ? agentWords(agent) : notRunning('agent')],
    ['engine', engine ? engineWords(engine) : notRunning('engine')],
    ['sculptor', sculptor ? sculptorWords(sculptor) : notRunning('sculptor')],
    [
      'pipeline',
      pipeline ? pipelineWords(pipeline) : 'not embedded: the collector carries what the parts say',
    ],
  ]);
  const sections = [fields];
  if (verdicts.length > 0) sections.push(formatVerdicts(verdicts));
  if (agent?.gate) sections.push(formatGate(agent.gate));
  return sections.join('\n\n');
}

function notRunning(part: string): string {
  return `not running (sculpt ${part} starts it)`;
}

function modeWords(
  { mode, ceiling }: NonNullable<Status['sculptor']>,
  stamp: string | undefined,
): string {
  return `${mode} (ceiling ${ceiling}${stamp === undefined ? '' : `, stamp ${stamp}`})`;
}

function agentWords(status: NonNullable<Status['agent']>) {
  const { instances, contended, events, lost, exports, sources, customProbes } = status;
  const lostEvents = sum(lost);
  const parts = [
    `${instances} instances, ${contended.length} contended`,
    `${events ?? 'uncounted'} events, ${lostEvents} lost${lostEvents > 0 ? ` (${reasons(lost)})` : ''}`,
    `${exports.delivered} exports`,
  ];
  const absent = Object.entries(sources).filter(([, state]) => state !== 'running');
  for (const [name, why] of absent) parts.push(`without ${name}: ${why}`);
  for (const [file, state] of Object.entries(customProbes))
    parts.push(`custom probe ${file}: ${state}`);
  if (sum(exports.lost) > 0) parts.push(`exports lost: ${reasons(exports.lost)}`);
  if (exports.lastFailure !== null) parts.push(`the last was not taken: ${exports.lastFailure}`);
  return parts.join('; ');
}

/** The guests that speak through the gate, and what it kept out. */
function formatGate({ guests, dropped }: NonNullable<NonNullable<Status['agent']>['gate']>) {
  const refused = sum(dropped) > 0 ? `; kept out: ${reasons(dropped)}` : '';
  const line = `gate: ${guests.length} guests seen${refused}`;
  if (guests.length === 0) return line;
  const table = formatTable<Guest>(
    [
      { title: 'GUEST', of: g => g.instance.name },
      { title: 'INSTANCE', of: g => g.instance.id },
      { title: 'VIA', of: g => g.via },
      { title: 'CONNECTED', right: true, of: g => String(g.connections) },
      { title: 'RECORDS', right: true, of: g => String(g.records) },
      { title: 'KEPT OUT', of: g => reasons(g.dropped) },
      { title: 'LAST FAILURE', of: g => g.lastFailure ?? '' },
    ],
    guests,
  );
  return `${line}\n${table}`;
}

function engineWords({ model, instances, lastFailure }: NonNullable<Status['engine']>): string {
  const failure = lastFailure === null ? '' : `; last failure: ${lastFailure}`;
  return `model ${model.name} ${model.version}; ${instances} instances${failure}`;
}

function sculptorWords(status: NonNullable<Status['sculptor']>): string {
  const { heartbeatAgeSeconds, running, leftovers, parked } = status;
  const heartbeat =
    heartbeatAgeSeconds === null
      ? 'no heartbeat yet'
      : `last heartbeat ${durationWords(heartbeatAgeSeconds)} ago`;
  const holding = [
    `${running} actions hold something`,
    ...(leftovers > 0
      ? [`${leftovers} are over, of which something could not be given back yet`]
      : []),
    `${parked} wait for a yes`,
  ];
  return `${holding.join(', ')}; ${heartbeat}`;
}

function pipelineWords({ counters }: NonNullable<Status['pipeline']>): string {
  const isLoss = (what: string): boolean =>
    what.includes('.lost.') || what.endsWith('.rejected-records');
  const lost = Object.fromEntries(Object.entries(counters).filter(([what]) => isLoss(what)));
  return sum(lost) > 0 ? `embedded; ${reasons(lost)}` : 'embedded';
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((a, b) => a + b, 0);
}

function reasons(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => `${reason} ${count}`)
    .join(', ');
}

/** Those that are awake, what asks for most first; the others are counted. */
function formatVerdicts(verdicts: readonly Verdict[]): string {
  const awake = verdicts.filter(({ state }) => state !== 'calm');
  const asleep = verdicts.length - awake.length;
  const more = asleep > 0 ? [`${asleep} instances are asleep; --json lists them as well.`] : [];
  const table = awake.length > 0 ? [formatAwake(awake)] : [];
  return [...table, ...more].join('\n');
}

function formatAwake(verdicts: readonly Verdict[]): string {
  const cores = (key: 'usedCores' | 'waitCores' | 'demandCores' | 'supplyCores') => (v: Verdict) =>
    v[key].toFixed(2);
  return formatTable(
    [
      { title: 'INSTANCE', of: v => v.instance },
      { title: 'STATE', of: v => v.state },
      { title: 'USED', right: true, of: cores('usedCores') },
      { title: 'WAITS', right: true, of: cores('waitCores') },
      { title: 'DEMAND', right: true, of: cores('demandCores') },
      { title: 'SHARE', right: true, of: cores('supplyCores') },
      { title: 'WHY', of: v => v.why },
    ],
    [...verdicts].sort((a, b) => b.demandCores - a.demandCores),
  );
}
