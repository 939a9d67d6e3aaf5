import type { CustomMetric, Sample } from '../../otlp/sample.ts';
import type { BpftraceRecord } from '../bpftrace/output.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { Counters } from '../sources/counters.ts';
import type { CustomHeader } from './header.ts';
import { createKeyReader, type KeyRefusal } from './keys.ts';
import type { Buckets } from './program.ts';
import { createValueReader, type ValueRefusal } from './values.ts';

export type LostValue =
  | KeyRefusal
  | ValueRefusal
  /** A cgroup that no instance was known by until the run ended, or by which none was known any more when it counted on. */
  | 'unnamed_cgroup'
  /** Past the number of series that a probe may have. */
  | 'series_full';

/**
 * One metric of a custom probe: what its map printed, as series of the host or of instances. Counters never fall, also when
 * the script is started again: what it counted until its last print stays, and the new run is added to it.
 */
export type Readings = {
  /** A run begins: its maps are empty. */
  readonly begin: () => void;
  readonly take: (entries: Entries) => void;
  /** These are the instances now. */
  readonly follow: (living: readonly LivingInstance[]) => void;
  /** The run is over, and what it printed is final. */
  readonly end: () => void;
  readonly samples: (living: LivingInstance) => Sample[];
  readonly host: () => Sample[];
  /** Keys that are not told, each counted once in a run. */
  readonly lost: () => Readonly<Record<LostValue, number>>;
};

type Entries = Extract<BpftraceRecord, { type: 'map' }>['entries'];
type Series = {
  readonly attributes: Readonly<Record<string, string>>;
  readonly counters: Counters;
};
type SeriesOf = Map<string, Series>;

export function createReadings(options: {
  readonly header: CustomHeader;
  readonly buckets: Buckets;
  readonly metric: CustomMetric;
  /** Seconds since the epoch: its series begin here, or with their instance where that is later. */
  readonly start: number;
  readonly maxSeries: number;
}): Readings {
  const { header, metric, start, maxSeries } = options;
  const readKey = createKeyReader(header.labels);
  const values = createValueReader(header, options.buckets);
  const isGauge = header.type === 'gauge';
  const lost: Record<LostValue, number> = {
    ambiguous_key: 0,
    missing_key: 0,
    key_too_long: 0,
    wrong_value: 0,
    negative: 0,
    unnamed_cgroup: 0,
    series_full: 0,
  };
  /** Of this run, by the key as it was printed. */
  const last = new Map<string | null, Counters>();
  const refused = new Set<string | null>();
  let latest: Entries = [];
  let lives = new Map<number, LivingInstance>();
  let ofHost: SeriesOf = new Map();
  let ofLife = new WeakMap<LivingInstance, SeriesOf>();
  let size = 0;

  const refuse = (key: string | null, reason: LostValue): void => {
    if (!refused.has(key)) lost[reason] += 1;
    refused.add(key);
  };

  /** Null: there is no room for one more. */
  const seriesOf = (of: SeriesOf, attributes: Series['attributes'], zeros: Counters) => {
    const id = JSON.stringify(Object.values(attributes));
    const found = of.get(id);
    if (found) return found;
    if (size >= maxSeries) return null;
    size += 1;
    const series = { attributes, counters: zeros };
    of.set(id, series);
    return series;
  };

  /** Undefined: the cgroup is not known, or not yet. */
  const seriesIn = (cgroupId: number | null): SeriesOf | undefined => {
    if (cgroupId === null) return ofHost;
    const living = lives.get(cgroupId);
    if (!living) return undefined;
    const found = ofLife.get(living) ?? new Map<string, Series>();
    ofLife.set(living, found);
    return found;
  };

  const charge = (key: string | null, now: Counters): 'unnamed' | 'done' => {
    const parts = readKey(key);
    if (typeof parts === 'string') {
      refuse(key, parts);
      return 'done';
    }
    const of = seriesIn(parts.cgroupId);
    if (!of) return 'unnamed';
    const series = seriesOf(of, parts.attributes, new Float64Array(now.length));
    if (!series) {
      refuse(key, 'series_full');
      return 'done';
    }
    addGrowth(series.counters, isGauge ? null : (last.get(key) ?? null), now);
    last.set(key, now);
    return 'done';
  };

  /** What is charged to a cgroup without a name is cumulative, and so is taken with a later print, or never: answers these. */
  const chargeAll = (): (readonly [key: string | null, now: Counters])[] => {
    if (isGauge) [ofHost, ofLife, size] = [new Map(), new WeakMap(), 0];
    return [...merged(latest, values.read, refuse)].filter(
      ([key, now]) => charge(key, now) === 'unnamed',
    );
  };
  /** Nothing of it is new since it was charged, such as to an instance that has ended since. */
  const isCharged = (key: string | null, now: Counters): boolean =>
    last.get(key)?.every((count, i) => count === now[i]) ?? false;

  const tell = (of: SeriesOf | undefined, from: number): Sample[] =>
    [...(of?.values() ?? [])].map(({ attributes, counters }) => ({
      metric,
      attributes,
      start: from,
      value: values.tell(counters),
    }));

  return {
    begin: () => {
      latest = [];
      last.clear();
      refused.clear();
    },
    take: entries => {
      latest = entries;
      // Keys that the script deleted: what is remembered is bounded by what a map holds.
      const present = new Set(entries.map(([key]) => key));
      for (const key of last.keys()) if (!present.has(key)) last.delete(key);
      for (const key of refused) if (!present.has(key)) refused.delete(key);
      chargeAll();
    },
    follow: living => {
      lives = new Map(living.flatMap(one => [...one.members.keys()].map(id => [id, one] as const)));
      if (!isGauge)
        size = living.reduce((sum, one) => sum + (ofLife.get(one)?.size ?? 0), ofHost.size);
      chargeAll();
    },
    end: () => {
      for (const [key, now] of chargeAll()) if (!isCharged(key, now)) refuse(key, 'unnamed_cgroup');
      latest = [];
      if (isGauge) chargeAll();
    },
    samples: living => tell(ofLife.get(living), Math.max(start, living.start)),
    host: () => tell(ofHost, start),
    lost: () => lost,
  };
}

/** By key; two that cannot be told apart any more, since their bytes are no text, are one. */
function merged(
  entries: Entries,
  read: (value: Entries[number][1]) => Counters | ValueRefusal,
  refuse: (key: string | null, reason: ValueRefusal) => void,
): Map<string | null, Counters> {
  const all = new Map<string | null, Counters>();
  for (const [key, value] of entries) {
    const counters = read(value);
    if (typeof counters === 'string') {
      refuse(key, counters);
      continue;
    }
    addGrowth(counters, null, all.get(key) ?? new Float64Array(counters.length));
    all.set(key, counters);
  }
  return all;
}

/** Adds what came since `before`; a map that the script cleared has begun anew: all of it is new. */
function addGrowth(sum: Counters, before: Counters | null, now: Counters): void {
  const anew = before?.some((count, i) => (now[i] ?? 0) < count) ?? true;
  for (const [i, count] of now.entries())
    sum[i] = (sum[i] ?? 0) + count - (anew ? 0 : (before?.[i] ?? 0));
}
