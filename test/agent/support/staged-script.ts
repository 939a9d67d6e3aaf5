import type { BpftraceRecord } from '../../../src/agent/bpftrace/output.ts';
import { noLosses, type RunLosses, type RunOptions } from '../../../src/agent/bpftrace/run.ts';
import type { ScriptContext } from '../../../src/agent/bpftrace/script.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

type Entry = Extract<BpftraceRecord, { type: 'map' }>['entries'][number];

/** What a bpftrace lost that lost nothing but `some`. */
export const lossesOf = (some: Partial<RunLosses> = {}): RunLosses => ({ ...noLosses, ...some });

/** What a script is started with, where the test is its bpftrace; each run of it loses `losses`. */
export function stagedScript({
  losses = lossesOf(),
  cgroupV1 = false,
  roots = {},
}: {
  losses?: RunLosses;
  cgroupV1?: boolean;
  roots?: Partial<ScriptContext['roots']>;
} = {}) {
  const clock = steppedClock();
  const runs: RunOptions[] = [];
  const stopped: RunOptions[] = [];
  const said: string[] = [];
  const context: ScriptContext = {
    run: options => {
      runs.push(options);
      return { losses: () => losses, stop: async () => void stopped.push(options) };
    },
    cgroupV1,
    roots: { proc: '/nowhere', sys: '/nowhere', cgroup: '/nowhere', ...roots },
    clock,
    say: (_, text) => void said.push(text),
  };
  /** The latest run prints a map, by its keys or, where one has none, by its entries. */
  const print = (name: string, map: Readonly<Record<string, number>> | readonly Entry[]): void => {
    const entries = Array.isArray(map) ? map : Object.entries(map);
    runs.at(-1)?.record({ type: 'map', name, entries });
  };
  return { context, clock, runs, stopped, said, print };
}
