import { existsSync, readFileSync } from 'node:fs';
import { KernelInterfaceError } from '../../contract/errors.ts';
import { btfOf, packageRoot } from '../../linux/native.ts';
import type { Source, SourceContext } from '../sources/source.ts';
import { keepRunning, starting } from './lasting-run.ts';
import { createMapSums, type MapSums } from './map-sums.ts';
import { type BpftraceRecord, beat } from './output.ts';
import type { RunLosses, runBpftrace } from './run.ts';

/** A script of bpf/ that is asked in a libbpf program's place, and begun again whenever it ends. */
export type Script = {
  readonly trouble: NonNullable<Source['trouble']>;
  /** Of all runs. */
  readonly losses: () => RunLosses;
  /** Resolves when the first run counts, to null, or has ended, to why. */
  readonly attached: Promise<string | null>;
  /** Ends the run, and begins another. */
  readonly renew: () => void;
  /** Resolves when no bpftrace is left. */
  readonly stop: () => Promise<void>;
};

export type ScriptContext = Pick<SourceContext, 'roots' | 'clock' | 'say'> & {
  readonly run: typeof runBpftrace;
  /** The scripts' first parameter says so. */
  readonly cgroupV1: boolean;
  /** A file with the BTF of the kernel that runs; absent: there is none. */
  readonly kernelBtf?: string | undefined;
};

/** Null where the driver is libbpf. */
export function scriptContextOf(context: SourceContext): ScriptContext | null {
  const { bpftrace: run, roots, layout, clock, say, config } = context;
  const kernelBtf = btfOf(config.btf, roots);
  return run && { run, roots, clock, say, cgroupV1: layout.version === 1, kernelBtf };
}

export type ScriptOptions = {
  readonly file: `bpf/${string}.bt`;
  /** `$2` and more. */
  readonly parameters?: readonly string[];
  /** What this kernel's structures make of it. */
  readonly fit?: (program: string) => string;
  /** Takes what it prints by itself. */
  readonly text?: (text: string) => void;
  /** What is appended to it: probes that print its maps, and `beat` at least once a second. */
  readonly prints: string;
  readonly record: (record: Extract<BpftraceRecord, { type: 'map' }>) => void;
  /** A run is over, and what it printed is final. */
  readonly ended: () => void;
};

/** Keys of each map of a script; a cgroup, a task, or a slot of a histogram may be one. */
const maxKeys = 65_536;
const maxBytesPerSecond = 8_388_608;

/** Starts a script. One that does not attach is told as `trouble`, and tried again. */
export function startScript(context: ScriptContext, options: ScriptOptions): Script {
  const { say, cgroupV1 } = context;
  const { file, parameters, text, fit = itself => itself } = options;
  const program = `${fit(readFileSync(`${packageRoot}${file}`, 'utf8'))}${options.prints}`;
  let settle: (trouble: string | null) => void = () => undefined;
  const attached = new Promise<string | null>(resolve => {
    settle = resolve;
  });
  const run = keepRunning({
    ...context,
    program: () => program,
    file,
    parameters: parameters ? [cgroupV1 ? '1' : '0', ...parameters] : cgroupV1 ? ['1'] : [],
    ...(text && { text }),
    maxBytesPerSecond,
    maxKeys,
    record: options.record,
    attached: () => settle(null),
    ended: news => {
      options.ended();
      settle(news ?? 'it ended');
      if (news !== null) say('error', `agent: ${file} ended, and is begun again: ${news}`);
    },
  });
  return {
    trouble: () => {
      const why = run.trouble();
      if (why === null) return null;
      return { code: why === starting ? 'starting' : 'BPFTRACE_FAILED', why };
    },
    losses: run.losses,
    attached,
    renew: run.renew,
    stop: run.stop,
  };
}

/** A script whose maps are sums alone. */
export type CountingScript = Script & {
  /** What one of its maps has come to. */
  readonly sums: MapSums['of'];
  readonly drop: MapSums['drop'];
};

/** Whether so many keys of what is gone take room that others may want: bpftrace lets go of none while it runs. */
function isCrowded({ keys, dropped }: { keys: number; dropped: number }): boolean {
  return dropped > maxKeys / 2 || (keys > (7 / 8) * maxKeys && dropped > maxKeys / 16);
}

/** A script that prints these sums each second. */
const eachSecond = (maps: readonly string[]): string =>
  // It beats so often that who waits for it to attach does not wait long.
  `\ninterval:s:1 { ${printsOf(maps)} }\ninterval:ms:200 { ${beat} }\n`;

/** What prints maps of these names. */
export const printsOf = (maps: readonly string[]): string =>
  maps.map(map => `print(@${map});`).join(' ');

/**
 * Starts a script of which these maps are read, as of a second ago at most, unless `prints` says otherwise. One that is crowded by keys of what is gone is begun again:
 * what it counted since its last print is lost, and what comes while it compiles.
 * @throws KernelInterfaceError KERNEL_MISSING where this kernel has not one of its tracepoints (`category:name`)
 */
export function startCountingScript(
  context: ScriptContext,
  options: Pick<ScriptOptions, 'file' | 'parameters' | 'fit' | 'text'> & {
    /** What else is made of what it prints. */
    readonly besides?: Pick<ScriptOptions, 'record' | 'ended'>;
    readonly prints?: string;
    /** Whose keys begin with who is dropped once it is gone. */
    readonly maps: readonly string[];
    /** Of the script as a whole. */
    readonly others?: readonly string[];
    readonly tracepoints: readonly string[];
    /** The kernel that they came with. */
    readonly since?: string;
  },
): CountingScript {
  const { file, maps, others = [], besides } = options;
  mustHave(options, context);
  const sums = createMapSums([...maps, ...others], maps);
  const script = startScript(context, {
    ...options,
    prints: options.prints ?? eachSecond([...maps, ...others]),
    record: record => {
      sums.take(record);
      besides?.record(record);
    },
    ended: () => {
      sums.begin();
      besides?.ended();
    },
  });
  return {
    trouble: script.trouble,
    losses: script.losses,
    attached: script.attached,
    renew: script.renew,
    stop: script.stop,
    sums: sums.of,
    drop: keys => {
      sums.drop(keys);
      if (!sums.held().some(isCrowded)) return;
      context.say('info', `agent: ${file} is begun again, since it cannot let go of what is gone`);
      script.renew();
    },
  };
}

function mustHave(
  {
    tracepoints,
    since,
    file,
  }: { readonly tracepoints: readonly string[]; readonly since?: string; readonly file: string },
  { roots }: ScriptContext,
): void {
  const events = `${roots.sys}/kernel/tracing/events`;
  // Where tracefs is not mounted bpftrace says so itself.
  if (!existsSync(events)) return;
  const absent = tracepoints.filter(each => !existsSync(`${events}/${each.replace(':', '/')}`));
  if (absent.length === 0) return;
  throw new KernelInterfaceError(
    'KERNEL_MISSING',
    `this kernel has no tracepoint ${absent.join(', ')}${since ? `, which came with ${since}` : ''}`,
    { program: file, ...(since && { remedy: `${since} or newer` }) },
  );
}
