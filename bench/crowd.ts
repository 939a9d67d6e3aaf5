import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Stage } from '../src/cli/demo/stage.ts';
import { type AgentProcess, type ProcessReading, readProcess } from './agent-process.ts';
import { readThreads, type Threads } from './rollup.ts';
import type { SinkReading } from './sink.ts';

/** Threads in instances, of which some wake when told to, at Zipf's rates over all instances. */
export type Crowd = {
  readonly instances: number;
  readonly threadsEach: number;
  readonly wakersEach: number;
  /** Of all of them; each is two switches where the CPU idles in between. */
  readonly wakeupsPerSecond: number;
  /** What each does then. */
  readonly burnUs: number;
};

/** 10,000 threads in 200 instances, of which 2,000 wake. */
export const tenThousand: Crowd = {
  instances: 200,
  threadsEach: 50,
  wakersEach: 10,
  wakeupsPerSecond: 15_000,
  burnUs: 20,
};

/** Resolves when all threads are there, at rest. */
export async function stageCrowd(stage: Stage, crowd: Crowd): Promise<void> {
  const { instances, threadsEach, wakersEach, wakeupsPerSecond, burnUs } = crowd;
  const ready = Array.from({ length: instances }, (_, i) => {
    const { stdout } = stage.run(
      stage.make(`crowd${i}`, { memory: true }),
      'crowd',
      ...['--count', String(threadsEach), '--wakers', String(wakersEach)],
      ...['--rank', String(i + 1), '--groups', String(instances)],
      ...['--rate', String(wakeupsPerSecond), '--burn-us', String(burnUs)],
    );
    if (stdout === null) throw new TypeError('the workload needs piped stdio');
    return new Promise(resolve => createInterface({ input: stdout }).once('line', resolve));
  });
  await Promise.all(ready);
}

export type Instant = {
  readonly process: ProcessReading;
  readonly sink: SinkReading;
  readonly switches: number;
};

/** Tells the crowd to wake, or to rest; how things stood before that. */
export async function order(
  stage: Stage,
  word: 'go' | 'rest',
  agent: AgentProcess,
): Promise<Instant> {
  const before = await instant(agent);
  for (const { processes } of stage.instances) processes[0]?.stdin?.write(`${word}\n`);
  return before;
}

/** Of a crowd that rests, when the agent has told all that it did; threads by instance id. */
export async function quiet(
  stage: Stage,
  agent: AgentProcess,
): Promise<Instant & { readonly threads: ReadonlyMap<string, Threads> }> {
  const { detailIntervalSeconds } = await agent.ask.agentSettings();
  await agent.ask.changeAgentSettings({ detailIntervalSeconds: 1 });
  await sleep(500);
  const told = async () => (await agent.received()).metrics['sculptor.cpu.context_switches'] ?? 0;
  // Two kinds of switches of each; the first export that comes may have been read before.
  const wanted = (await told()) + 3 * 2 * stage.instances.length;
  for (let waited = 0; waited < 20 && (await told()) < wanted; waited += 1) await sleep(500);
  const now = { ...(await instant(agent)), threads: readThreads(stage.instances) };
  await agent.ask.changeAgentSettings({ detailIntervalSeconds });
  return now;
}

async function instant({ pid, received }: AgentProcess): Promise<Instant> {
  return { process: readProcess(pid), sink: await received(), switches: readSwitches() };
}

function readSwitches(): number {
  return Number(/^ctxt (\d+)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1]);
}
