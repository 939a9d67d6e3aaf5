import type { LivingInstance } from '../../src/agent/instances.ts';
import type { Source } from '../../src/agent/source.ts';

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

export function toldSeries(samples: ReturnType<Source['host']>): ToldSeries {
  return Object.fromEntries(
    samples.map(({ metric, attributes, value }) => [
      [metric, ...Object.values(attributes ?? {})].join(' '),
      Number(value),
    ]),
  );
}
