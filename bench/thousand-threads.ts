import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { realClock } from '../src/cli/clock.ts';
import type { Stage, StagedInstance } from '../src/cli/demo/stage.ts';
import { configSchema } from '../src/contract/config.ts';
import type { Instance, Task } from '../src/contract/instance.ts';
import type { Recommendation } from '../src/contract/recommendation.ts';
import { loadNative } from '../src/linux/native.ts';
import { listThreads, readTaskStat } from '../src/linux/procfs.ts';
import { hostRoots } from '../src/linux/roots.ts';
import { createActionLog } from '../src/sculptor/action-log.ts';
import type { ActionTimings } from '../src/sculptor/apply.ts';
import { createExecutor } from '../src/sculptor/executor.ts';
import { createHeadlineSeries } from '../src/sculptor/headline-series.ts';
import { createHistory } from '../src/sculptor/history.ts';
import { openJournal } from '../src/sculptor/journal.ts';
import { bootId, openKernel } from '../src/sculptor/kernel.ts';
import { planOf } from '../src/sculptor/plan.ts';
import type { Tell } from './bench.ts';

/** Seconds: the calls alone; snapshot, journal, apply and read-back together; giving it all back. */
export type ThreadsRound = {
  readonly applySeconds: number;
  readonly actionSeconds: number;
  readonly rollbackSeconds: number;
};

const count = 1000;

/** Moves a thousand sleeping threads to CPU 0 and back, by the sculptor's own executor and a journal on disk. */
export async function timeThousandThreads(
  stage: Stage,
  rounds: number,
  folder: string,
  tell: Tell,
): Promise<ThreadsRound[]> {
  const instance = await stageThreads(stage);
  const sculptor = openSculptor(join(folder, 'journal.db'));
  try {
    const measured: ThreadsRound[] = [];
    while (measured.length < rounds) {
      measured.push(sculptor.moveAndGiveBack(recommendationFor(instance)));
      tell(
        `${count} threads, round ${measured.length} of ${rounds}: ${JSON.stringify(measured.at(-1))}`,
      );
    }
    return measured;
  } finally {
    sculptor.close();
    await stage.remove(instance);
  }
}

async function stageThreads(stage: Stage): Promise<StagedInstance> {
  const instance = stage.make('threads');
  const { stdout } = stage.run(instance, 'threads', '--count', String(count));
  if (stdout === null) throw new TypeError('the workload needs piped stdio');
  for await (const line of createInterface({ input: stdout })) if (line === 'ready') break;
  return instance;
}

function openSculptor(journalFile: string) {
  const say = () => undefined;
  const config = configSchema.parse({ sculptor: { journal: journalFile } }).sculptor;
  const { kernel, close } = openKernel(loadNative(), hostRoots, say);
  const journal = openJournal(journalFile, bootId(hostRoots), hostRoots);
  const log = createActionLog({ hostId: 'bench', clock: realClock, emit: () => undefined });
  let timings: ActionTimings | null = null;
  const executor = createExecutor({
    ...{ config, kernel, journal, log, clock: realClock, say },
    series: createHeadlineSeries(),
    history: createHistory([]),
    timings: each => {
      timings = each;
    },
  });
  return {
    moveAndGiveBack: (recommendation: Recommendation): ThreadsRound => {
      const began = performance.now();
      const plan = planOf(kernel, recommendation);
      const planSeconds = (performance.now() - began) / 1000;
      const action = log.begin(recommendation, 'enforce');
      executor.run(action, recommendation, plan, planSeconds);
      const held = executor.running()[0];
      if (held === undefined || timings === null)
        throw new Error(`the action was not carried out: ${JSON.stringify(plan.problems[0])}`);
      const { journalSeconds, applySeconds, readBackSeconds } = timings;
      const giveBack = performance.now();
      executor.finish(held, 'restored', { code: 'user', message: 'end of the round' });
      return {
        applySeconds,
        actionSeconds: planSeconds + journalSeconds + applySeconds + readBackSeconds,
        rollbackSeconds: (performance.now() - giveBack) / 1000,
      };
    },
    close: () => {
      close();
      journal.close();
    },
  };
}

function recommendationFor({ id, name, processes }: StagedInstance): Recommendation {
  const instance: Instance = { id, kind: 'cgroup', name };
  const tgid = processes[0]?.pid ?? 0;
  const tasks = listThreads(hostRoots, tgid).flatMap((tid): Task[] => {
    const stat = readTaskStat(hostRoots, tid);
    return stat ? [{ kind: 'thread', tid, startTicks: stat.startTicks }] : [];
  });
  const now = Date.now() / 1000;
  return {
    id: crypto.randomUUID(),
    created: now,
    expires: now + 30,
    leaseSeconds: 60,
    hostId: 'bench',
    beneficiary: instance,
    mechanism: 'direct',
    moves: [{ instance, tasks, set: { cpus: [0] } }],
    predicted: {
      metric: 'waitRatio',
      without: 1,
      with: 0.5,
      gainRatio: 0.5,
      interval: [0.4, 0.6],
      probability: 0.9,
    },
    cost: [],
    evidence: {
      summary: 'made by the benchmark',
      class: { is: 'normal', source: 'default' },
      demandCores: { q50: 0, q90: 0, q95: 0 },
      supplyCores: 1,
      observed: { usedCores: 0, waitCores: 0, throttledCores: 0 },
      contenders: [],
      alternatives: [],
    },
    model: { name: 'bench', version: '1', sha256: '0'.repeat(64) },
  };
}
