import { setTimeout as sleep } from 'node:timers/promises';
import { openStage } from '../src/cli/demo/stage.ts';
import {
  type AgentProcess,
  type ProcessReading,
  readProcess,
  startAgentProcess,
  taskStorageBytes,
} from './agent-process.ts';
import { type BenchResult, rawFolder, type Tell, writeRaw } from './bench.ts';
import { order, stageCrowd, tenThousand } from './crowd.ts';

/** Its start, and what V8 compiles as it learns what is hot. */
const warmSeconds = 120;
const watchedSeconds = 600;
const lookSeconds = 5;

/**
 * What the agent's process has in memory over ten minutes, with its BPF, beside the crowd of `agent-footprint`, whose one
 * reading in the fourth minute does not show how it comes and goes with collections of V8's.
 */
export async function benchAgentMemory(tell: Tell): Promise<BenchResult> {
  const folder = rawFolder('agent-memory');
  const stage = openStage(`sculptor-bench-${process.pid}`);
  let agent: AgentProcess | null = null;
  try {
    await stageCrowd(stage, tenThousand);
    agent = await startAgentProcess(folder);
    await order(stage, 'go', agent);
    const readings: ProcessReading[] = [];
    const began = performance.now() / 1000;
    const age = (): number => performance.now() / 1000 - began;
    while (age() < watchedSeconds) {
      await sleep(lookSeconds * 1000);
      const reading = readProcess(agent.pid);
      readings.push(reading);
      if (readings.length % 12 === 0) tell(`${age().toFixed(0)} s: ${totalOf(reading)} B`);
    }
    writeRaw(folder, 'readings.jsonl', readings);
    const later = readings.filter(({ at }) => at - began > warmSeconds).map(totalOf);
    return {
      figures: {
        total_bytes_mean: later.reduce((sum, bytes) => sum + bytes, 0) / later.length,
        total_bytes_least: Math.min(...later),
        total_bytes_most: Math.max(...later),
        total_bytes_most_at_start: Math.max(...readings.map(totalOf)),
        seconds: age(),
      },
      targets: { total_bytes_most: '≤ 100 MB' },
      overrides: {},
      raw: folder,
    };
  } finally {
    await agent?.stop();
    await stage.clear();
  }
}

function totalOf({ rssBytes, bpfMapBytes, bpfProgramBytes }: ProcessReading): number {
  const { instances, threadsEach } = tenThousand;
  return rssBytes + bpfMapBytes + bpfProgramBytes + instances * threadsEach * taskStorageBytes;
}
