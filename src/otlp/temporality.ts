import { nearestOf } from '../contract/nearest.ts';
import type {
  ExplicitHistogram,
  ExponentialHistogram,
  Temporality,
} from '../contract/telemetry.ts';

type Value = number | ExplicitHistogram | ExponentialHistogram;

type Cumulative = { readonly start: number; readonly value: Value };

/** What was shaped together, and so arrives together or not at all. */
export type Batch = readonly {
  readonly key: string;
  readonly point: Cumulative;
  readonly time: number;
}[];

/** Shapes cumulative values into what is exported. Between `shape` and `deliver` an export is under way. */
export type Temporal = {
  readonly temporality: Temporality;
  /** `key` is asked for only where something is kept of the series. */
  readonly shape: (key: () => string, point: Cumulative, now: number) => Cumulative;
  /** What was shaped since the last call. */
  readonly take: () => Batch;
  /** Delta: what was delivered is taken off the next; what never is is in it again, so that nothing is lost. */
  readonly deliver: (batch: Batch) => void;
  /** Drops what is kept of series whose key begins with `prefix`. */
  readonly forget: (prefix: string) => void;
  /**
   * Drops what is kept of series of tasks that have ended. It asks of those alone that were not told since then (seconds since the
   * epoch): where /proc hides tasks, none would be alive, and all would be told whole again. Cumulative keeps nothing.
   */
  readonly keepTasks: (isAlive: (task: string) => boolean, since: number) => void;
};

const variable = 'OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE';
const preferences = ['cumulative', 'delta', 'lowmemory'];

/** What the environment of this process asks for. */
export function ownTemporality(): Temporal {
  return temporalityFrom(process.env[variable]);
}

/**
 * What is wrong with what the environment asks for, for a person; null: nothing.
 * @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#enum an unknown value is warned of and ignored
 */
export function explainPreference(preference = process.env[variable]): string | null {
  if (!preference || preferences.includes(preference.toLowerCase())) return null;
  const near = nearestOf(preference, preferences);
  const guess = near === null ? '' : ` (perhaps ${near})`;
  return `${variable}: got ${JSON.stringify(preference)}, wanted ${preferences.join(', ')}${guess}. It is ignored: metrics are cumulative`;
}

/** Cumulative unless the preference is delta (or lowmemory, which is delta for counters), in any case of letters. */
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
    take: () => nothing,
    deliver: () => undefined,
    forget: () => undefined,
    keepTasks: () => undefined,
  };
}

const nothing: Batch = [];

function deltaTemporality(): Temporal {
  const delivered = new Map<string, Cumulative & { readonly time: number; told: number }>();
  let shaped: Batch[number][] = [];
  return {
    temporality: 'delta',
    shape: (keyOf, point, now) => {
      const key = keyOf();
      const last = delivered.get(key);
      shaped.push({ key, point, time: now });
      if (!last) return point;
      last.told = now;
      // Another start is another life of the series, also where that begins at the very time of the last export.
      if (last.start !== point.start) return point;
      return { start: last.time, value: difference(point.value, last.value) };
    },
    take: () => {
      const batch = shaped;
      shaped = [];
      return batch;
    },
    deliver: batch => {
      for (const { key, point, time } of batch)
        delivered.set(key, { start: point.start, value: point.value, time, told: time });
    },
    forget: prefix => {
      for (const key of delivered.keys()) if (key.startsWith(prefix)) delivered.delete(key);
    },
    keepTasks: (isAlive, since) => {
      for (const [key, { told }] of delivered) {
        if (told >= since) continue;
        const task = taskOfKey(key);
        if (task !== null && !isAlive(task)) delivered.delete(key);
      }
    },
  };
}

/** Key of a series: the resource's identity, empty for one of a task, the metric, and what tells its points apart; tasks as `TID@TICKS`. */
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
  const [shift, zeroCount] =
    before.kind === 'exponential' ? [before.offset - value.offset, before.zeroCount] : [0, 0];
  return {
    ...value,
    ...common,
    zeroCount: value.zeroCount - zeroCount,
    counts: value.counts.map((count, i) => count - (before.counts[i - shift] ?? 0)),
  };
}
