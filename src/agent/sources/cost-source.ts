import { attr } from '../../contract/metrics.ts';
import type { BpfAccount, BpfCost } from '../../linux/bpf-account.ts';
import type { Source } from './source.ts';

type Told = ReturnType<Source['host']>[number];

/** What the agent itself takes: its process, and its programs and maps in the kernel. `start`: of the process, seconds since the epoch. */
export function createCostSource(options: {
  readonly account: Pick<BpfAccount, 'cost' | 'fills'>;
  readonly own: Pick<NodeJS.Process, 'cpuUsage'> & {
    readonly memoryUsage: Pick<NodeJS.MemoryUsageFn, 'rss'>;
  };
  readonly start: number;
}): Source {
  const { account, own, start } = options;
  let told: readonly Told[] = [];
  let runsBefore = 0;
  return {
    name: 'cost',
    read: () => {
      const bpf = account.cost();
      // No file tells wholly whether the kernel counts (its sysctl knows of no BPF_ENABLE_STATS). Some program has run since.
      const isCounted = bpf !== null && bpf.runs > runsBefore;
      runsBefore = bpf?.runs ?? runsBefore;
      const { user, system } = own.cpuUsage();
      told = [
        { metric: 'process.memory.usage', value: own.memoryUsage.rss() },
        ...Object.entries({ user, system }).map(([mode, us]) => ({
          metric: 'process.cpu.time' as const,
          attributes: { [attr.cpuMode]: mode },
          start,
          value: us / 1e6,
        })),
        ...(bpf ? [{ metric: 'sculptor.agent.bpf.memory' as const, value: bpf.memoryBytes }] : []),
        ...(isCounted ? runSamples(bpf) : []),
        ...account.fills().flatMap(fillSamples),
      ];
    },
    samples: () => [],
    host: () => told,
    lost: () => ({}),
    forget: () => undefined,
    stop: () => undefined,
  };
}

function runSamples({ runs, runNs }: BpfCost): Told[] {
  return [
    { metric: 'sculptor.agent.bpf.runs', value: runs },
    { metric: 'sculptor.agent.bpf.run.time', value: runNs / 1e9 },
  ];
}

function fillSamples({
  map,
  entries,
  maxEntries,
}: ReturnType<BpfAccount['fills']>[number]): Told[] {
  const attributes = { [attr.map]: map };
  return [
    { metric: 'sculptor.agent.map.entries', attributes, value: entries },
    { metric: 'sculptor.agent.map.limit', attributes, value: maxEntries },
  ];
}
