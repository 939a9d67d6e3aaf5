import { ConfigError } from '../../contract/errors.ts';
import type { Clock, Say } from '../../contract/ports.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Sample } from '../../otlp/sample.ts';
import { keepRunning } from '../bpftrace/lasting-run.ts';
import type { RunLosses, runBpftrace } from '../bpftrace/run.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { type CustomHeader, parseHeaders } from './header.ts';
import { type Buckets, bucketsOf, mostBuckets, printsPartOf, programOf } from './program.ts';
import { createReadings, type LostValue } from './readings.ts';

/** What every custom probe stands on. */
export type ProbeContext = {
  readonly run: typeof runBpftrace;
  /** Asked whenever a run of a script begins. */
  readonly printIntervalSeconds: () => number;
  readonly maxSeries: number;
  readonly maxKeys: number;
  readonly maxBytesPerSecond: number;
  readonly roots: Roots;
  readonly clock: Clock;
  readonly say: Say;
};

/** A script that may be run: its text and what its header says. */
export type ProbeScript = {
  readonly file: string;
  readonly text: string;
  readonly metrics: readonly { readonly header: CustomHeader; readonly buckets: Buckets }[];
};

export type CustomProbe = {
  /** Null: it runs; else why not. */
  readonly trouble: () => string | null;
  readonly restarts: () => number;
  readonly lost: () => Readonly<Record<LostValue | keyof RunLosses, number>>;
  readonly follow: (living: readonly LivingInstance[]) => void;
  readonly samples: (living: LivingInstance) => Sample[];
  /** What of them is told every second. */
  readonly headline: (living: LivingInstance) => Sample[];
  readonly host: () => Sample[];
  /** Runs it anew, by the print interval of now; its counters go on. */
  readonly renew: () => void;
  readonly stop: () => Promise<void>;
};

/** @throws ConfigError CUSTOM_PROBE_INVALID, with file and line */
export function readScript(text: string, file: string): ProbeScript {
  const metrics = parseHeaders(text, file).map(header => {
    const buckets = bucketsOf(text, header.map);
    if (buckets === null)
      throw invalid(
        `got an lhist() that is not known from the text, wanted lhist(value, MIN, MAX, STEP) with numbers, and at most ${mostBuckets} buckets`,
        file,
        header,
      );
    if (printsPartOf(text, header.map))
      throw invalid(
        `got a print(@${header.map}, …) of a part of the map, or divided, wanted print(@${header.map}) or none: what is printed is what is told`,
        file,
        header,
      );
    return { header, buckets };
  });
  return { file, text, metrics };
}

function invalid(what: string, file: string, { line }: CustomHeader): ConfigError {
  return new ConfigError('CUSTOM_PROBE_INVALID', `${file}:${line}: ${what}`, { file, line });
}

/** Runs a script until it is stopped. Its series begin now; when it ends and is begun again, its counters go on. */
export function startCustomProbe(
  { file, text, metrics }: ProbeScript,
  context: ProbeContext,
): CustomProbe {
  const start = context.clock.unixSeconds();
  const readings = new Map(
    metrics.map(({ header, buckets }) => {
      const { name, unit, type, map } = header;
      const description = header.description ?? `From the custom probe ${file}.`;
      const metric = { name, unit, type, description };
      const { maxSeries } = context;
      return [map, createReadings({ header, buckets, metric, start, maxSeries })] as const;
    }),
  );
  const all = [...readings.values()];
  const headline = metrics.find(({ header }) => header.headline)?.header.map;
  const ofHeadline = headline === undefined ? undefined : readings.get(headline);
  const run = keepRunning({
    ...context,
    file,
    program: () =>
      programOf(
        text,
        metrics.map(({ header }) => header),
        context.printIntervalSeconds(),
      ),
    record: ({ name, entries }) => readings.get(name)?.take(entries),
    attached: () => context.say('info', `agent: the custom probe ${file} runs`),
    ended: news => {
      for (const one of all) {
        one.end();
        one.begin();
      }
      if (news !== null)
        context.say('warn', `agent: the custom probe ${file} ended, and is begun again: ${news}`);
    },
  });
  return {
    trouble: run.trouble,
    restarts: run.restarts,
    lost: () => ({ ...addLost(all.map(one => one.lost())), ...run.losses() }),
    follow: living => {
      for (const one of all) one.follow(living);
    },
    samples: living => all.flatMap(one => one.samples(living)),
    headline: living => ofHeadline?.samples(living) ?? [],
    host: () => all.flatMap(one => one.host()),
    renew: run.renew,
    stop: run.stop,
  };
}

function addLost(all: readonly Readonly<Record<LostValue, number>>[]): Record<LostValue, number> {
  const sum: Record<LostValue, number> = {
    ambiguous_key: 0,
    missing_key: 0,
    key_too_long: 0,
    wrong_value: 0,
    negative: 0,
    unnamed_cgroup: 0,
    series_full: 0,
  };
  for (const lost of all)
    for (const reason of Object.keys(sum) as LostValue[]) sum[reason] += lost[reason];
  return sum;
}
