import test from 'ava';
import { createCostSource } from '../../../src/agent/sources/cost-source.ts';
import type { BpfCost } from '../../../src/linux/bpf-account.ts';

function stage() {
  let cost: BpfCost = { memoryBytes: 4096, runs: 0, runNs: 0 };
  const source = createCostSource({
    account: {
      cost: () => cost,
      fills: () => [{ map: 'pairs', entries: 3, maxEntries: 16_384 }],
    },
    own: {
      cpuUsage: () => ({ user: 2_500_000, system: 500_000 }),
      memoryUsage: { rss: () => 70e6 },
    },
    start: 1234,
  });
  return {
    /** What is told after so many runs of 200 ns each. */
    after: (runs: number) => {
      cost = { ...cost, runs, runNs: runs * 200 };
      source.read([]);
      return source.host();
    },
    source,
  };
}

test('what the agent takes is told as of the last reading', t => {
  const { source, after } = stage();
  t.deepEqual(source.host(), []);
  after(0);
  t.deepEqual(source.host(), [
    { metric: 'process.memory.usage', value: 70e6 },
    {
      metric: 'process.cpu.time',
      attributes: { 'cpu.mode': 'user' },
      start: 1234,
      value: 2.5,
    },
    {
      metric: 'process.cpu.time',
      attributes: { 'cpu.mode': 'system' },
      start: 1234,
      value: 0.5,
    },
    { metric: 'sculptor.agent.bpf.memory', value: 4096 },
    {
      metric: 'sculptor.agent.map.entries',
      attributes: { 'sculptor.agent.map': 'pairs' },
      value: 3,
    },
    {
      metric: 'sculptor.agent.map.limit',
      attributes: { 'sculptor.agent.map': 'pairs' },
      value: 16_384,
    },
  ]);
});

test('runs of BPF programs are told while the kernel counts them', t => {
  const { after } = stage();
  const runs = (count: number) =>
    Object.fromEntries(
      after(count)
        .filter(({ metric }) => String(metric).startsWith('sculptor.agent.bpf.run'))
        .map(({ metric, value }) => [metric, value]),
    );
  t.deepEqual(runs(0), {});
  const told = { 'sculptor.agent.bpf.runs': 5e6, 'sculptor.agent.bpf.run.time': 1 };
  t.deepEqual(runs(5e6), told);
  t.deepEqual(runs(5e6), {}, 'it has ceased to count');
  t.deepEqual(runs(6e6), { 'sculptor.agent.bpf.runs': 6e6, 'sculptor.agent.bpf.run.time': 1.2 });
});
