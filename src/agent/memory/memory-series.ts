import { attr, type MetricName } from '../../contract/metrics.ts';
import type { CgroupMemory, MemoryCounts, NodePages } from '../../linux/memory.ts';
import { type Pressure, type PressureResource, pressureResources } from '../../linux/pressure.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { Counters } from '../sources/counters.ts';

/** Everything that is counted of an instance, or of the host, as the kernel had it at one time. */
export type Counted = {
  readonly counts: MemoryCounts;
  /** Resources that the kernel tells of. */
  readonly pressure: ReadonlyMap<PressureResource, Pressure>;
};

type CounterSeries = {
  readonly metric: MetricName;
  readonly attributes: Readonly<Record<string, string>>;
  /** Null: this kernel does not tell. */
  readonly of: (counted: Counted) => number | null;
};

/** Of an instance (`container.memory.paging.faults`) or of the host (`system.paging.faults`); NUMA where there are nodes. */
export function counterSeries(faults: MetricName, severalNodes: boolean): CounterSeries[] {
  const count = (
    metric: MetricName,
    key: keyof MemoryCounts,
    attributes: Record<string, string> = {},
  ): CounterSeries => ({
    metric,
    attributes: Object.freeze(attributes),
    of: ({ counts }) => counts[key],
  });
  const reclaim = (
    what: 'scanned' | 'reclaimed',
    direct: keyof MemoryCounts,
    background: keyof MemoryCounts,
  ) => [
    count(`sculptor.memory.reclaim.${what}`, direct, { [attr.reclaimer]: 'direct' }),
    count(`sculptor.memory.reclaim.${what}`, background, { [attr.reclaimer]: 'background' }),
  ];
  return [
    count(faults, 'minorFaults', { [attr.faultType]: 'minor' }),
    count(faults, 'majorFaults', { [attr.faultType]: 'major' }),
    count('sculptor.memory.refaults', 'anonRefaults', { [attr.memoryKind]: 'anon' }),
    count('sculptor.memory.refaults', 'fileRefaults', { [attr.memoryKind]: 'file' }),
    ...reclaim('scanned', 'directScanned', 'backgroundScanned'),
    ...reclaim('reclaimed', 'directReclaimed', 'backgroundReclaimed'),
    ...(severalNodes
      ? [
          count('sculptor.memory.numa.hint_faults', 'numaHintFaults'),
          count('sculptor.memory.numa.migrations', 'numaMigrations'),
        ]
      : []),
    ...pressureResources.flatMap(resource => [
      stall(resource, 'some', 'someSeconds'),
      stall(resource, 'full', 'fullSeconds'),
    ]),
  ];
}

function stall(resource: PressureResource, kind: string, key: keyof Pressure): CounterSeries {
  return {
    metric: 'sculptor.pressure.time',
    attributes: Object.freeze({ [attr.pressureResource]: resource, [attr.pressureKind]: kind }),
    of: ({ pressure }) => pressure.get(resource)?.[key] ?? null,
  };
}

/** In the order of the series; 0 where the kernel does not tell. */
export function countersOf(series: readonly CounterSeries[], counted: Counted): Counters {
  return Float64Array.from(series, ({ of }) => of(counted) ?? 0);
}

/**
 * Minor faults are what of all faults was not major. Since Linux 6.4 a fault is counted when it is done, and as a major one when its
 * I/O begins (commit 53156443a303): with more of those under way than at the reading before, the difference may be less.
 */
export function withoutFall(now: MemoryCounts, before: MemoryCounts | undefined): MemoryCounts {
  if (before === undefined || before.minorFaults <= now.minorFaults) return now;
  return { ...now, minorFaults: before.minorFaults };
}

/** What came since `before` (`start`): counters in the order of the series. */
export function counterSamples(
  series: readonly CounterSeries[],
  counted: Counted,
  before: Counters,
  start: number,
): Sample[] {
  const samples: Sample[] = [];
  series.forEach(({ metric, attributes, of }, i) => {
    const count = of(counted);
    if (count !== null)
      samples.push({ metric, attributes, start, value: Math.max(0, count - (before[i] ?? 0)) });
  });
  return samples;
}

/** What its memory is now; `local`: share of its pages, null where it is not known. */
export function gaugeSamples(
  { usageBytes, workingSetBytes, dirtyBytes }: CgroupMemory,
  pages: NodePages | null,
  local: number | null,
  start: number,
): Sample[] {
  const of = (metric: MetricName, value: number, attributes: PageAttributes = noAttributes) => ({
    metric,
    attributes,
    start,
    value,
  });
  const samples: Sample[] = [
    of('container.memory.usage', usageBytes),
    of('container.memory.working_set', workingSetBytes),
    of('sculptor.memory.dirty', dirtyBytes),
  ];
  pages?.forEach((nodes, kind) => {
    nodes.forEach((bytes, node) => {
      samples.push(of('sculptor.memory.pages', bytes, pageAttributes(node, kind)));
    });
  });
  if (local !== null) samples.push(of('sculptor.memory.local', local));
  return samples;
}

type PageAttributes = NonNullable<Sample['attributes']>;

const noAttributes: PageAttributes = Object.freeze({});

/** By node and kind: a host has few of both. */
const pagesOf = new Map<string, PageAttributes>();

function pageAttributes(node: number, kind: string): PageAttributes {
  const name = `${node} ${kind}`;
  const known = pagesOf.get(name);
  if (known) return known;
  const attributes = Object.freeze({ [attr.memoryNode]: node, [attr.memoryKind]: kind });
  pagesOf.set(name, attributes);
  return attributes;
}
