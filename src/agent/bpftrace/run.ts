import { existsSync } from 'node:fs';
import { type ExecaError, execa, type Options } from 'execa';
import type { Loss } from '../../contract/metrics/losses.ts';
import type { Clock } from '../../contract/ports.ts';
import { ownBtf } from '../../linux/native.ts';
import type { Roots } from '../../linux/roots.ts';
import { asChild, childOptions } from '../child-command.ts';
import { createLineReader } from './lines.ts';
import { type BpftraceRecord, parseLine } from './output.ts';

/** How one run of bpftrace ended. */
export type RunEnd = {
  /** It had attached its probes, and so counted. */
  readonly attached: boolean;
  /** For a person: bpftrace's own message, or how it ended. */
  readonly why: string;
};

export type RunLosses = Readonly<Record<Loss<'bpftrace'>, number>>;

/** Of a run that lost nothing. */
export const noLosses: RunLosses = {
  lost_events: 0,
  map_full: 0,
  helper_failed: 0,
  text_lines: 0,
  malformed_lines: 0,
  line_too_long: 0,
  flooded_seconds: 0,
};

export type BpftraceRun = {
  readonly losses: () => RunLosses;
  /** Ends it at once. Resolves when it is gone; what it counted since its last print is lost. */
  readonly stop: () => Promise<void>;
};

export type RunOptions = {
  /** The program's text; messages name it `file`. */
  readonly program: string;
  readonly file: string;
  /** `$1`, `$2` … of the program. */
  readonly parameters?: readonly string[];
  readonly maxBytesPerSecond: number;
  /** Entries of each of its maps: more are counted as `map_full`. */
  readonly maxKeys: number;
  /** A file with the kernel's BTF; absent: the kernel's own. */
  readonly btf?: string;
  readonly roots: Roots;
  readonly clock: Clock;
  readonly record: (record: Extract<BpftraceRecord, { type: 'map' }>) => void;
  /** What it prints by itself; absent: lines that are counted as `text_lines`. */
  readonly text?: (text: string) => void;
  /** Once, when it has attached its probes and counts: `beat` must be in the program. */
  readonly attached: () => void;
  /** Once, when it is gone by itself, or was ended since it hung; never after `stop`. */
  readonly ended: (end: RunEnd) => void;
};

/** 4096 keys of 65 buckets each are 10 MB; what is usual is some KB. */
const maxLineBytes = 8_388_608;
/** Of what it says when it fails. */
const maxMessageBytes = 16_384;
/** Each program beats once a second at least: one that says nothing for so long hangs. A starved one comes late by a second or two. */
const mostQuietSeconds = 10;
/** Before it is attached: LLVM compiles the program in 0.2-0.6 s on an idle machine, 25 to 35 s in an emulated one on two busy CPUs. */
const mostAttachingSeconds = 60;
/** E2BIG: map_update_elem of a hash map that is full. */
const mapFull = 7;

/**
 * Runs one program under bpftrace, without `--unsafe`, so that system() and the like are refused. It ends with this process,
 * however that ends: the kernel kills it (pdeathsig); and where that came too early to be seen, at its next print.
 */
export function runBpftrace(options: RunOptions): BpftraceRun {
  const { file, clock, roots } = options;
  const losses = {
    lost_events: 0,
    map_full: 0,
    helper_failed: 0,
    text_lines: 0,
    malformed_lines: 0,
  };
  let attached = false;
  let stopped = false;
  const take = (line: string): void => {
    const record = parseLine(line);
    if (record === null) losses.malformed_lines += 1;
    else if (record.type === 'text' && options.text) options.text(record.text);
    else if (record.type === 'text') losses.text_lines += 1;
    else if (record.type === 'lost') losses.lost_events += record.events;
    else if (record.type === 'helper')
      losses[record.errno === mapFull ? 'map_full' : 'helper_failed'] += 1;
    else if (record.type === 'map') options.record(record);
    else if (record.type === 'beat' && !attached) {
      attached = true;
      options.attached();
    }
  };
  const limits = { maxLineBytes, maxBytesPerSecond: options.maxBytesPerSecond };
  const reader = createLineReader(limits, take);

  const child = execa(
    'setpriv',
    asChild([...command, ...(options.parameters ?? [])]),
    settings(options),
  );
  let quietSeconds = 0;
  const quietLimit = (): number => (attached ? mostQuietSeconds : mostAttachingSeconds);
  child.stdout.on('data', (chunk: Buffer) => {
    quietSeconds = 0;
    // What was printed before the end is read to its end, or the end would never be seen.
    if (!stopped && !reader.take(chunk)) child.stdout.pause();
  });
  // In turns of a timer, not by the clock: an agent that was held up itself reads what came meanwhile before its next turn.
  const cancel = clock.every(1, () => {
    if (!child.stdout.isPaused()) quietSeconds += 1;
    if (quietSeconds === quietLimit()) child.kill('SIGKILL');
    if (reader.nextSecond()) child.stdout.resume();
  });
  let message = '';
  child.stderr.on('data', (chunk: Buffer) => {
    if (message.length < maxMessageBytes) message += chunk.toString('utf8');
  });
  const gone = child.then(
    () => 'it ended by itself',
    (error: ExecaError) => error.shortMessage,
  );
  const finished = gone.then(how => {
    cancel();
    if (stopped) return;
    const said = explain(message, file);
    const limit = quietLimit();
    const hung =
      quietSeconds >= limit
        ? `it printed nothing for ${limit} s${attached ? '' : ', and is not attached'}`
        : '';
    const why = hung || said || how;
    const hint =
      !attached && !existsSync(`${roots.sys}/kernel/tracing/events`)
        ? ' (tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing)'
        : '';
    options.ended({ attached, why: `${why}${hint}` });
  });

  return {
    losses: () => ({
      ...losses,
      line_too_long: reader.tooLong(),
      flooded_seconds: reader.fullSeconds(),
    }),
    stop: () => {
      stopped = true;
      cancel();
      child.kill('SIGKILL');
      child.stdout.resume();
      return finished;
    },
  };
}

/** How bpftrace is run on this kernel; `btf`: a file with its BTF, for one that has none of its own. */
export function bpftraceOf(btf: string | undefined, roots: Roots): typeof runBpftrace {
  if (btf === undefined || existsSync(ownBtf(roots))) return runBpftrace;
  return options => runBpftrace({ ...options, btf });
}

/** `-k`: failures of helpers are told, such as a map that is full. */
const command = ['bpftrace', '-k', '-f', 'json', '-B', 'line', '-'];

function settings({ program, maxKeys, btf }: RunOptions) {
  return {
    ...childOptions,
    input: program,
    buffer: false,
    encoding: 'buffer',
    reject: true,
    env: {
      BPFTRACE_MAP_KEYS_MAX: String(maxKeys),
      ...(btf === undefined ? {} : { BPFTRACE_BTF: btf }),
    },
  } as const satisfies Options;
}

/** What bpftrace said, by the file's own name, without what it says each time. */
function explain(message: string, file: string): string {
  return message
    .split('\n')
    .filter(line => line !== '' && !line.includes("couldn't set RLIMIT_MEMLOCK"))
    .slice(0, 6)
    .map(line => line.replace(/^stdin:/, `${file}:`).slice(0, 400))
    .join('\n');
}
