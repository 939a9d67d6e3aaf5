import { createLiveConfig, type Selection } from '../../agent/live-config.ts';
import type { SourceContext, SourceKind } from '../../agent/sources/source.ts';
import { sourceKinds, trySource } from '../../agent/sources/sources.ts';
import type { AgentConfig } from '../../contract/config.ts';
import { readCgroupLayout } from '../../linux/cgroups.ts';
import { realClock } from '../clock.ts';
import { type Check, unknown, works } from './check.ts';
import type { Machine } from './machine.ts';
import { lacking } from './remedy.ts';

/** Each source that this configuration selects: whether this kernel lets this process start it. */
export async function checkSources(
  machine: Machine,
  config: AgentConfig,
  kinds: readonly SourceKind[] = sourceKinds,
): Promise<Check[]> {
  const { selection } = createLiveConfig(config);
  const checks: Check[] = [];
  // One after another: each is loaded or compiled for real.
  for (const kind of kinds) checks.push(await checkSource(kind, machine, config, selection));
  return checks;
}

async function checkSource(
  kind: SourceKind,
  machine: Machine,
  config: AgentConfig,
  selection: Pick<Selection, 'tellsOf'>,
): Promise<Check> {
  const name = `source ${kind.name}`;
  if (!selection.tellsOf(kind.name))
    return unknown(name, { found: 'not selected (agent.profile, agent.metrics): not tried' });
  try {
    const { found, isSure } = await trySource(kind, await contextOf(machine, config));
    return isSure ? works(name, false, { found }) : unknown(name, { found: `${found}; not tried` });
  } catch (error) {
    return lacking(name, false, kind.tells, error);
  }
}

/** Nothing is read by it. */
async function contextOf({ native, roots }: Machine, config: AgentConfig): Promise<SourceContext> {
  const byBpftrace = config.driver === 'bpftrace';
  const { bpftraceOf } = await import('../../agent/bpftrace/run.ts');
  return {
    config,
    native: native(),
    bpftrace: byBpftrace ? bpftraceOf(config.btf, roots) : null,
    roots,
    layout: readCgroupLayout(roots),
    runByCpu: () => new Map(),
    vcpus: { of: () => new Map(), learn: () => undefined, untold: () => 0 },
    guests: () => null,
    hostId: 'doctor',
    emit: () => undefined,
    clock: realClock,
    say: () => undefined,
  };
}
