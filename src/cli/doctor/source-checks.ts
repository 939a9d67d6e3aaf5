import { createLiveConfig } from '../../agent/live-config.ts';
import type { SourceContext, SourceKind } from '../../agent/sources/source.ts';
import { sourceKinds, trySource } from '../../agent/sources/sources.ts';
import type { AgentConfig } from '../../contract/config.ts';
import { readCgroupLayout } from '../../linux/cgroups.ts';
import { realClock } from '../clock.ts';
import { type Check, unknown, works } from './check.ts';
import type { Machine } from './machine.ts';
import { attempt } from './remedy.ts';

/** Each source that this configuration selects: whether this kernel lets this process start it. */
export function checkSources(
  machine: Machine,
  config: AgentConfig,
  kinds: readonly SourceKind[] = sourceKinds,
): Check[] {
  const { selection } = createLiveConfig(config);
  return kinds.map(kind => {
    const name = `source ${kind.name}`;
    if (!selection.tellsOf(kind.name))
      return unknown(name, { found: 'not selected (agent.profile, agent.metrics): not tried' });
    return attempt(name, false, kind.tells, () => {
      const { found, isSure } = trySource(kind, contextOf(machine, config));
      return isSure
        ? works(name, false, { found })
        : unknown(name, { found: `${found}; not tried` });
    });
  });
}

/** Nothing is read by it. */
function contextOf({ native, roots }: Machine, config: AgentConfig): SourceContext {
  return {
    config,
    native: native(),
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
