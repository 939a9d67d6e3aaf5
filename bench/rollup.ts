import { readFileSync } from 'node:fs';
import type { StagedInstance } from '../src/cli/demo/stage.ts';
import { listThreads } from '../src/linux/procfs.ts';
import { readText } from '../src/linux/read-file.ts';
import { hostRoots } from '../src/linux/roots.ts';
import type { SinkReading } from './sink.ts';

/**
 * Of all threads of an instance, by /proc/TID: context switches, and seconds by schedstat. The switches are exact. The seconds
 * differ from what the hooks see by some 5 µs a wake-up (by its looks: the clock of the run queue that schedstat goes by is not
 * brought up to date at each), which is much of runs of 20 µs and 0.5 % of runs of 1 ms.
 */
export type Threads = { readonly switches: number; readonly run: number; readonly wait: number };

/** What the agent has told, and by instance id what its threads say of themselves. */
type Both = { readonly sink: SinkReading; readonly threads: ReadonlyMap<string, Threads> };

/** How far the agent's totals are off those of the threads. `worst`: switches of one instance with at least 1000. */
export type Rollup = Readonly<Record<keyof Threads | 'worst', number>>;

export function readThreads(staged: readonly StagedInstance[]): Map<string, Threads> {
  return new Map(staged.map(({ id, folders }) => [id, threadsOf(`${folders[0]}/cgroup.procs`)]));
}

function threadsOf(procs: string): Threads {
  let [switches, run, wait] = [0, 0, 0];
  for (const tgid of readFileSync(procs, 'latin1').split('\n').filter(Boolean))
    for (const tid of listThreads(hostRoots, Number(tgid))) {
      const status = readText(`/proc/${tid}/status`) ?? '';
      for (const [, count] of status.matchAll(/voluntary_ctxt_switches:\s+(\d+)/g))
        switches += Number(count);
      const [ran, waited] = (readText(`/proc/${tid}/schedstat`) ?? '').split(' ');
      run += Number(ran) / 1e9;
      wait += Number(waited) / 1e9;
    }
  return { switches, run, wait };
}

function toldOf({ totals }: SinkReading, id: string): Threads {
  const told = (series: string) => totals[id]?.[series] ?? 0;
  return {
    switches:
      told('sculptor.cpu.context_switches voluntary') +
      told('sculptor.cpu.context_switches involuntary'),
    run: told('container.cpu.time'),
    wait: told('sculptor.runqueue.wait'),
  };
}

const noThreads: Threads = { switches: 0, run: 0, wait: 0 };

export function rollupOf(from: Both, to: Both): Rollup {
  const ids = [...to.threads.keys()];
  const grown = (of: (instant: Both) => Threads, what: keyof Threads) =>
    of(to)[what] - of(from)[what];
  const told = (id: string) => (instant: Both) => toldOf(instant.sink, id);
  const threads = (id: string) => (instant: Both) => instant.threads.get(id) ?? noThreads;
  const off = (some: readonly string[], what: keyof Threads) => {
    const sum = (of: (id: string) => number) => some.reduce((all, id) => all + of(id), 0);
    const wanted = sum(id => grown(threads(id), what));
    return Math.abs(sum(id => grown(told(id), what)) / wanted - 1);
  };
  const busy = ids.filter(id => grown(threads(id), 'switches') >= 1000);
  return {
    switches: off(ids, 'switches'),
    run: off(ids, 'run'),
    wait: off(ids, 'wait'),
    worst: Math.max(0, ...busy.map(id => off([id], 'switches'))),
  };
}
