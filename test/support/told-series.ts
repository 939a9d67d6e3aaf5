import type { LivingInstance } from '../../src/agent/instances/instances.ts';
import type { Source } from '../../src/agent/sources/source.ts';
import type { SteppedClock } from './stepped-clock.ts';

/** Series of one instance, or of the host: value by metric and attributes. */
export type ToldSeries = Readonly<Record<string, number>>;

/** The life of one cgroup, of which it is the only one. */
export function livingAt(path: string, id: number): LivingInstance {
  return {
    instance: { id: path, kind: 'cgroup', name: path },
    path,
    start: 1,
    members: new Map([[id, path]]),
    totals: { runNs: 0 },
  } as unknown as LivingInstance;
}

/** Has a source read one instance, and answers what it then tells of it. */
export function readTold(source: Source, living: LivingInstance): ToldSeries {
  source.read([living]);
  return toldSeries(source.samples(living));
}

/** The same of a source that reads by turns, each time at once: its clock is stepped by an interval of 10 s. */
export function readByTurns(
  source: Source,
  clock: SteppedClock,
): (path: string, id: number) => ToldSeries {
  const lives = new Map<number, LivingInstance>();
  return (path, id) => {
    const living = lives.get(id) ?? livingAt(path, id);
    lives.set(id, living);
    // One that did not run would not be read.
    (living.totals as { runNs: number }).runNs += 1;
    source.read([living]);
    clock.step(10);
    return toldSeries(source.samples(living));
  };
}

export function toldSeries(samples: ReturnType<Source['host']>): ToldSeries {
  return Object.fromEntries(
    samples.map(({ metric, attributes, value }) => [
      [metric, ...Object.values(attributes ?? {})].join(' '),
      Number(value),
    ]),
  );
}
