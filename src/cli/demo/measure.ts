import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { ProtocolError } from '../../contract/errors.ts';
import { listFolder, readText } from '../../linux/read-file.ts';
import type { StagedInstance } from './stage.ts';

const markSchema = z.strictObject({
  phase: z.string(),
  n: z.int().min(0),
  p50Us: z.number(),
  p99Us: z.number(),
  maxUs: z.number(),
  dropped: z.int().min(0),
});

/** How late a periodic task was woken, by its own clock, over one phase. Seconds. */
export type Lateness = {
  readonly samples: number;
  readonly p50Seconds: number;
  readonly p99Seconds: number;
  readonly maxSeconds: number;
};

/** Ends a phase of a `latency` workload and answers what it measured since the last call. */
export type MarkPhase = (phase: string) => Promise<Lateness>;

/** @throws ProtocolError EVENT_INVALID when the workload answers something else, or has ended */
export function phaseMarker(child: ChildProcess): MarkPhase {
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new TypeError('the workload needs piped stdio');
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  return async phase => {
    stdin.write(`mark ${phase}\n`);
    const { value, done } = await lines.next();
    if (done === true)
      throw new ProtocolError('EVENT_INVALID', `the latency workload ended during "${phase}"`);
    const mark = markSchema.parse(JSON.parse(value));
    return {
      samples: mark.n,
      p50Seconds: mark.p50Us / 1e6,
      p99Seconds: mark.p99Us / 1e6,
      maxSeconds: mark.maxUs / 1e6,
    };
  };
}

/** CPU time of all threads of the instances since they were born, in seconds, from /proc/PID/task/TID/schedstat. */
export function cpuSeconds(instances: readonly StagedInstance[]): number {
  let totalNs = 0;
  for (const { pid } of instances.flatMap(instance => instance.processes))
    for (const tid of listFolder(`/proc/${pid}/task`))
      totalNs += Number(readText(`/proc/${pid}/task/${tid}/schedstat`)?.split(' ')[0] ?? 0);
  return totalNs / 1e9;
}

/** Cores that each group of instances got over the next `seconds`. */
export async function coresOver<Name extends string>(
  seconds: number,
  groups: Readonly<Record<Name, readonly StagedInstance[]>>,
): Promise<Record<Name, number>> {
  const names = Object.keys(groups) as Name[];
  const read = () => names.map(name => cpuSeconds(groups[name]));
  const [began, before] = [performance.now(), read()];
  await sleep(seconds * 1000);
  const [after, ended] = [read(), performance.now()];
  const cores = (i: number) => ((after[i] ?? 0) - (before[i] ?? 0)) / ((ended - began) / 1000);
  return Object.fromEntries(names.map((name, i) => [name, cores(i)])) as Record<Name, number>;
}
