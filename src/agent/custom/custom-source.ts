import type { CustomProbesConfig } from '../../contract/custom-probes-config.ts';
import { ConfigError, describeError, type ErrorCode } from '../../contract/errors.ts';
import { attr } from '../../contract/metrics.ts';
import type { Clock, Say } from '../../contract/ports.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { runBpftrace } from '../bpftrace/run.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { Source } from '../sources/source.ts';
import { listScripts, readScriptFile } from './folder.ts';
import { type CustomProbe, type ProbeScript, readScript, startCustomProbe } from './probe.ts';

export type CustomSource = Omit<Source, 'stop'> & {
  /** What is told of an instance every second. */
  readonly headline: (living: LivingInstance) => readonly Sample[];
  /** By file: `running`, or why it is not. */
  readonly status: () => Record<string, string>;
  /** Resolves when no bpftrace is left. */
  readonly stop: () => Promise<void>;
};

export type CustomSourceOptions = {
  readonly config: CustomProbesConfig & { readonly directory: string };
  /** May change: then every script is run anew. */
  readonly printIntervalSeconds: () => number;
  readonly run: typeof runBpftrace;
  readonly roots: Roots;
  readonly clock: Clock;
  readonly say: Say;
};

/** A file of the folder: a probe, or why it is none. */
type Entry = {
  readonly fingerprint: string;
  readonly names: readonly string[];
  readonly hasHeadline: boolean;
  readonly start: number;
  readonly probe: CustomProbe | null;
  readonly refusal: string | null;
};

/** How often the folder is looked at. A file is taken when two looks found it the same: nothing that is half written. */
const lookSeconds = 1;

/**
 * The custom probes: every script in the folder that the configuration names runs under bpftrace, as long as it is there. One
 * that is changed is a new one: its series begin anew.
 */
export function startCustomSource(options: CustomSourceOptions): CustomSource {
  const { config, clock, say } = options;
  const { directory, maxProbes } = config;
  const context = { ...config, ...options };
  const entries = new Map<string, Entry>();
  const said = new Map<string, string>();
  const ending = new Set<Promise<void>>();
  const kept: Record<string, number> = { files_unseen: 0, failed_looks: 0 };
  let seen = new Map<string, string>();
  let printInterval = options.printIntervalSeconds();
  let living: readonly LivingInstance[] = [];

  const sayOnce = (about: string, message: string): void => {
    if (said.get(about) !== message) say('warn', `agent: ${message}`);
    said.set(about, message);
  };

  const running = (): Entry[] => [...entries.values()].filter(({ probe }) => probe !== null);

  const begin = (file: string, fingerprint: string): void => {
    let names: string[] = [];
    let hasHeadline = false;
    let probe: CustomProbe | null = null;
    let refusal: string | null = null;
    try {
      const script = readScript(readScriptFile(directory, file, process.getuid?.() ?? 0), file);
      checkRoom(script, entries, maxProbes);
      names = script.metrics.map(({ header }) => header.name);
      hasHeadline = script.metrics.some(({ header }) => header.headline);
      probe = startCustomProbe(script, context);
      probe.follow(living);
      said.delete(file);
    } catch (error) {
      refusal = describeError(error);
      sayOnce(file, `the custom probe ${file} is refused: ${refusal}`);
    }
    const start = clock.unixSeconds();
    entries.set(file, { fingerprint, names, hasHeadline, start, probe, refusal });
  };

  const end = (file: string, { probe }: Entry): void => {
    entries.delete(file);
    if (!probe) return;
    for (const [reason, n] of Object.entries(probe.lost())) kept[reason] = (kept[reason] ?? 0) + n;
    const ended = probe.stop().finally(() => ending.delete(ended));
    ending.add(ended);
    // Its place and its names are free: what was refused for want of them is looked at again.
    for (const [other, { refusal }] of entries) if (refusal !== null) entries.delete(other);
  };

  const look = (): void => {
    const { files, unseen } = listScripts(directory);
    kept['files_unseen'] = Math.max(kept['files_unseen'] ?? 0, unseen);
    const now = new Map(files.map(({ file, fingerprint }) => [file, fingerprint]));
    for (const [file, entry] of [...entries]) {
      if (now.get(file) === entry.fingerprint) continue;
      const why = now.has(file) ? 'has changed' : 'is gone';
      if (entry.probe) say('info', `agent: the custom probe ${file} is stopped: its file ${why}`);
      end(file, entry);
    }
    for (const [file, fingerprint] of now)
      if (!entries.has(file) && seen.get(file) === fingerprint) begin(file, fingerprint);
    for (const about of said.keys()) if (!now.has(about)) said.delete(about);
    seen = now;
  };
  const followInterval = (): void => {
    const now = options.printIntervalSeconds();
    if (now === printInterval) return;
    printInterval = now;
    for (const { probe } of running()) probe?.renew();
  };
  const guarded = (): void => {
    followInterval();
    try {
      look();
    } catch (error) {
      kept['failed_looks'] = (kept['failed_looks'] ?? 0) + 1;
      sayOnce('', `the folder of custom probes cannot be read: ${describeError(error)}`);
    }
  };
  guarded();
  const cancel = clock.every(lookSeconds, guarded);

  return {
    name: 'custom',
    read: now => {
      living = now;
      for (const { probe } of entries.values()) probe?.follow(now);
    },
    samples: one => running().flatMap(({ probe }) => probe?.samples(one) ?? []),
    headline: one => running().flatMap(({ probe }) => probe?.headline(one) ?? []),
    host: () => [
      ...running().flatMap(({ probe }) => probe?.host() ?? []),
      ...[...entries].flatMap(([file, entry]) => selfSamples(file, entry)),
    ],
    lost: () => {
      const sum = { ...kept };
      for (const { probe } of entries.values())
        for (const [reason, n] of Object.entries(probe?.lost() ?? {}))
          sum[reason] = (sum[reason] ?? 0) + n;
      return sum;
    },
    forget: () => undefined,
    status: () =>
      Object.fromEntries(
        [...entries].map(([file, { probe, refusal }]) => [
          file,
          refusal ?? probe?.trouble() ?? 'running',
        ]),
      ),
    stop: async () => {
      cancel();
      for (const [file, entry] of [...entries]) end(file, entry);
      await Promise.all(ending);
    },
  };
}

/** @throws ConfigError CUSTOM_PROBE_INVALID: there are as many as may be, or another tells a metric of this name */
function checkRoom(
  { file, metrics }: ProbeScript,
  entries: ReadonlyMap<string, Entry>,
  maxProbes: number,
): void {
  const others = [...entries].filter(([, { probe }]) => probe !== null);
  if (others.length >= maxProbes)
    throw new ConfigError(
      'CUSTOM_PROBE_INVALID',
      `${file}: got one more probe, wanted at most ${maxProbes} (agent.customProbes.maxProbes)`,
    );
  for (const { header } of metrics) {
    const other = others.find(([, { names }]) => names.includes(header.name));
    if (other)
      throw new ConfigError(
        'CUSTOM_PROBE_INVALID',
        `${file}:${header.line}: got name "${header.name}", wanted one other than those of ${other[0]}`,
      );
    const ofHeadline = others.find(([, { hasHeadline }]) => hasHeadline);
    if (header.headline && ofHeadline)
      throw new ConfigError(
        'CUSTOM_PROBE_INVALID',
        `${file}:${header.line}: got headline: true, wanted it of one probe alone: ${ofHeadline[0]} has it`,
      );
  }
}

/** What is said of one probe itself. */
function selfSamples(file: string, { probe, start }: Entry): Sample[] {
  const attributes = { [attr.probe]: file };
  const reason: ErrorCode | null =
    probe === null ? 'CUSTOM_PROBE_INVALID' : probe.trouble() === null ? null : 'BPFTRACE_FAILED';
  return [
    {
      metric: 'sculptor.agent.probe.available',
      attributes: { ...attributes, ...(reason === null ? {} : { [attr.reason]: reason }) },
      start,
      value: reason === null ? 1 : 0,
    },
    { metric: 'sculptor.agent.probe.restarts', attributes, start, value: probe?.restarts() ?? 0 },
    ...Object.entries(probe?.lost() ?? {}).map(
      ([reason, value]): Sample => ({
        metric: 'sculptor.agent.probe.lost',
        attributes: { ...attributes, [attr.reason]: reason },
        start,
        value,
      }),
    ),
  ];
}
