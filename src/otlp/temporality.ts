import type {
  ExplicitHistogram,
  ExponentialHistogram,
  Temporality,
} from '../contract/telemetry.ts';

type Value = number | ExplicitHistogram | ExponentialHistogram;

type Cumulative = { readonly start: number; readonly value: Value };

/** Shapes cumulative values into what is exported. Between `shape` and `settle` an export is under way. */
export type Temporal = {
  readonly temporality: Temporality;
  /** `key` is asked for only where something is kept of the series. */
  readonly shape: (key: () => string, point: Cumulative, now: number) => Cumulative;
  /** Delta: what was delivered is taken off the next; what was not is in it again, so that nothing is lost. */
  readonly settle: (delivered: boolean) => void;
  /** Drops what is kept of series whose key begins with `prefix`. */
  readonly forget: (prefix: string) => void;
  /** Drops what is kept of series of tasks that have ended. Cumulative keeps nothing, and does not ask. */
  readonly keepTasks: (isAlive: (task: string) => boolean) => void;
};

/** Cumulative unless OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE says delta (or lowmemory, which is delta for counters). */
export function temporalityFrom(preference: string | undefined): Temporal {
  const wanted = preference?.toLowerCase();
  return wanted === 'delta' || wanted === 'lowmemory'
    ? deltaTemporality()
    : cumulativeTemporality();
}

function cumulativeTemporality(): Temporal {
  return {
    temporality: 'cumulative',
    shape: (_key, point) => point,
    settle: () => undefined,
    forget: () => undefined,
    keepTasks: () => undefined,
  };
}

function deltaTemporality(): Temporal {
  const delivered = new Map<string, { time: number; value: Value }>();
  let underWay = new Map<string, { time: number; value: Value }>();
  return {
    temporality: 'delta',
    shape: (keyOf, point, now) => {
      const key = keyOf();
      const last = delivered.get(key);
      underWay.set(key, { time: now, value: point.value });
      if (!last || last.time < point.start) return point;
      return { start: last.time, value: difference(point.value, last.value) };
    },
    settle: ok => {
      if (ok) for (const [key, last] of underWay) delivered.set(key, last);
      underWay = new Map();
    },
    forget: prefix => {
      for (const key of delivered.keys()) if (key.startsWith(prefix)) delivered.delete(key);
    },
    keepTasks: isAlive => {
      for (const key of delivered.keys()) {
        const task = taskOfKey(key);
        if (task !== null && !isAlive(task)) delivered.delete(key);
      }
    },
  };
}

/** Key of a series: the resource's identity, the metric, and what tells its points apart; tasks as `TID@TICKS`. */
export function seriesKey(identity: string, metric: string, distinction: string): string {
  return `${identity}\n${metric}\n${distinction}`;
}

function taskOfKey(key: string): string | null {
  return /\n(\d+@\d+)$/.exec(key)?.[1] ?? null;
}

/** What came between two cumulative values of one series. */
export function difference(value: Value, before: Value): Value {
  if (typeof value === 'number' || typeof before === 'number')
    return Number(value) - Number(before);
  const common = { count: value.count - before.count, sum: value.sum - before.sum };
  if (value.kind === 'explicit') {
    return {
      ...value,
      ...common,
      counts: value.counts.map((count, i) => count - (before.counts[i] ?? 0)),
    };
  }
  // Cumulative buckets only grow outwards: the earlier offset is the same or higher.
  const shift = before.kind === 'exponential' ? before.offset - value.offset : 0;
  return {
    ...value,
    ...common,
    counts: value.counts.map((count, i) => count - (before.counts[i - shift] ?? 0)),
  };
}
