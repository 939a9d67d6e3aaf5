import { writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { describeError, KernelInterfaceError } from '../contract/errors.ts';
import { kdamondsFolder, markFile, ownMark, whoMonitors } from './damon-owner.ts';
import { cutRanges, lengthOf, type Range } from './mappings.ts';
import { readNumber, readText } from './read-file.ts';
import type { Roots } from './roots.ts';

export type DamonOptions = {
  /** Processes that can be monitored at once. */
  readonly kdamonds: number;
  /** In one window a sampled page counts once, however often it was used. */
  readonly windowSeconds: number;
  /** Into so many parts of equal size what is sampled of a process is cut; one page of each is sampled in each window. */
  readonly parts: number;
};

/** What was found in one process since `begin`. */
export type Accesses = {
  /** Windows that are over. */
  readonly windows: number;
  /** Bytes of the parts whose sampled page was used, over all windows: without bias, what is used in a window times their number. */
  readonly usedBytes: number;
};

/** Kdamonds of this process, by their number; they are used by one caller, who keeps an account of which are free. */
export type Damon = {
  /** Begins to monitor a process, at these addresses: ascending, and no more ranges than parts. */
  readonly begin: (kdamond: number, tgid: number, ranges: readonly Range[]) => Promise<void>;
  /** The kernel answers at the end of the window that is under way, and one question after another. */
  readonly ask: (kdamond: number) => Promise<Accesses>;
  /** Ends it. One that is off stays so, as when its process has ended. */
  readonly end: (kdamond: number) => Promise<void>;
  /** Ends all, at once and for good, and takes away the kdamonds unless they are somebody else's by now. Takes a second at worst. */
  readonly giveBack: () => void;
};

/** Writes that the kernel may answer late. */
export type KernelWriter = {
  readonly now: (path: string, text: string) => void;
  readonly later: (path: string, text: string) => Promise<void>;
};

/** Never makes a file: sysfs would answer something else than that it is not there. */
const flag = 'r+';
const kernelWriter: KernelWriter = {
  now: (path, text) => writeFileSync(path, text, { flag }),
  later: (path, text) => writeFile(path, text, { flag }),
};

const highest = { bytes: 2n ** 64n - 1n, count: 2 ** 32 - 1 };
/** What is counted: parts whose sampled page was used in a window, and the others. */
const [used, unused] = [0, 1];
/** DAMON has one lock, and answers EBUSY while it is held: for milliseconds, and 100 ms when what it waits for has ended. */
const [triesWhenBusy, pauseMilliseconds] = [50, 20];
const pause = new Int32Array(new SharedArrayBuffer(4));
const piecesAtOnce = 50;
/** DAMON takes no less. */
const fewestRegions = 3;
/** It draws the page of a part by 32 bits. */
const mostPartBytes = 2 ** 32 - 2 ** 16;

/** Hosts whose kernel was found to have no virtual addresses, for which it must be given a kdamond: once is enough. */
const withoutAddresses = new WeakSet<Roots>();

function noAddresses(): KernelInterfaceError {
  return new KernelInterfaceError(
    'KERNEL_MISSING',
    'DAMON knows no virtual addresses here, or none that are given: a kernel from 5.19 on with CONFIG_DAMON_VADDR is wanted',
    { remedy: 'a kernel from 5.19 on with CONFIG_DAMON_VADDR' },
  );
}

/**
 * Takes DAMON for this process: with the virtual addresses of processes, the accessed bits of which it clears and looks at, those in
 * the page tables of KVM's guests too. Leaves everything as it was when it throws.
 * @throws KernelInterfaceError KERNEL_MISSING, KERNEL_PRIVILEGE; KERNEL_BUSY where somebody else monitors; KERNEL_IO
 * @see https://docs.kernel.org/admin-guide/mm/damon/usage.html
 */
export function takeDamon(
  roots: Roots,
  options: DamonOptions,
  writer: KernelWriter = kernelWriter,
): Damon {
  const folder = kdamondsFolder(roots);
  if (withoutAddresses.has(roots)) throw noAddresses();
  const { who, left } = whoMonitors(roots, process.pid);
  if (who !== null) throw new KernelInterfaceError('KERNEL_BUSY', who, { path: folder });
  const mark = ownMark(roots, process.pid);
  const sync = createSyncWriter(writer, folder);
  if (left) takeAway(sync, readNumber(`${folder}/nr_kdamonds`) ?? 0);
  sync('nr_kdamonds', options.kdamonds);
  try {
    for (let i = 0; i < options.kdamonds; i += 1) setUp(roots, sync, i, { ...options, mark });
  } catch (error) {
    takeAway(sync, 0);
    throw error;
  }
  return createDamon(roots, options, { mark, writer, sync });
}

/**
 * What `takeDamon` would find, without a write: whether it knows virtual addresses shows only once a kdamond is made.
 * `isSure`: an agent has it, and so it works.
 * @throws KernelInterfaceError as `takeDamon`; not KERNEL_BUSY where an agent has it
 */
export function lookAtDamon(roots: Roots): { readonly found: string; readonly isSure: boolean } {
  const { who, agent, left } = whoMonitors(roots, process.pid);
  if (who !== null) {
    // One of another pid namespace may have ended.
    if (agent) return { found: who, isSure: agent.tgid !== undefined };
    throw new KernelInterfaceError('KERNEL_BUSY', who, { path: kdamondsFolder(roots) });
  }
  const whose = left
    ? 'what an agent that has ended left there is taken away by the next'
    : 'nobody uses it';
  return { found: `DAMON is there, and ${whose}`, isSure: false };
}

type SyncWriter = (path: string, text: number | bigint | string) => void;

function createSyncWriter(writer: KernelWriter, folder: string): SyncWriter {
  return (path, text) => {
    for (let tries = 1; ; tries += 1) {
      try {
        writer.now(`${folder}/${path}`, String(text));
        return;
      } catch (error) {
        if (errnoOf(error) !== 'EBUSY' || tries === triesWhenBusy)
          throw refusal(`${folder}/${path}`, text, error);
        Atomics.wait(pause, 0, 0, pauseMilliseconds);
      }
    }
  };
}

function setUp(
  roots: Roots,
  write: SyncWriter,
  kdamond: number,
  { windowSeconds, mark }: DamonOptions & { readonly mark: number },
): void {
  const context = `${kdamond}/contexts/0`;
  write(`${kdamond}/contexts/nr_contexts`, 1);
  write(`${kdamond}/${markFile}`, mark);
  const operations = readText(`${kdamondsFolder(roots)}/${context}/avail_operations`) ?? '';
  // Where it is to look is told it: by itself (`vaddr`) it takes in all but the two largest gaps, of a heap far from all else too.
  if (!operations.split(/\s+/).includes('fvaddr')) {
    withoutAddresses.add(roots);
    throw noAddresses();
  }
  write(`${context}/operations`, 'fvaddr');
  const [attributes, microseconds] = [`${context}/monitoring_attrs`, windowSeconds * 1e6];
  // One sample is one window: a part counts as used by what one page of it did for all of the window, and no part hides in another.
  write(`${attributes}/intervals/sample_us`, microseconds);
  write(`${attributes}/intervals/aggr_us`, microseconds);
  write(`${context}/targets/nr_targets`, 1);
  write(`${context}/schemes/nr_schemes`, 2);
  for (const [scheme, least, most] of [
    [used, 1, highest.count],
    [unused, 0, 0],
  ] as const) {
    const at = `${context}/schemes/${scheme}`;
    write(`${at}/action`, 'stat');
    write(`${at}/access_pattern/sz/max`, highest.bytes);
    write(`${at}/access_pattern/age/max`, highest.count);
    write(`${at}/access_pattern/nr_accesses/max`, most);
    write(`${at}/access_pattern/nr_accesses/min`, least);
  }
}

/** What cannot be taken away stays: it bears the mark of who made it. */
function takeAway(write: SyncWriter, kdamonds: number): void {
  for (let i = 0; i < kdamonds; i += 1) attempt(() => write(`${i}/state`, 'off'));
  attempt(() => write('nr_kdamonds', 0));
}

function attempt(run: () => void): void {
  try {
    run();
  } catch {
    // Off already, or gone.
  }
}

function createDamon(
  roots: Roots,
  { kdamonds, parts }: DamonOptions,
  own: { readonly mark: number; readonly writer: KernelWriter; readonly sync: SyncWriter },
): Damon {
  const folder = kdamondsFolder(roots);
  /** By kdamond: bytes that a window samples. */
  const sampled = new Map<number, number>();
  let last: Promise<unknown> = Promise.resolve();
  let given = false;

  /** One at a time: DAMON takes one command at a time from everybody. */
  const inTurn = <T>(run: () => Promise<T>): Promise<T> => {
    const turn = last.then(run);
    last = turn.catch(() => undefined);
    return turn;
  };
  const isOurs = (kdamond: number): boolean =>
    readNumber(`${folder}/nr_kdamonds`) === kdamonds &&
    readNumber(`${folder}/${kdamond}/${markFile}`) === own.mark;
  const write = async (path: string, text: number | string): Promise<void> => {
    for (let tries = 1; ; tries += 1) {
      try {
        await own.writer.later(`${folder}/${path}`, String(text));
        return;
      } catch (error) {
        if (errnoOf(error) !== 'EBUSY' || tries === triesWhenBusy || given)
          throw refusal(`${folder}/${path}`, text, error);
        await new Promise(resolve => setTimeout(resolve, pauseMilliseconds));
      }
    }
  };
  /** Somebody may have taken the kdamonds away while none of them was on. */
  const mustBeOurs = (kdamond: number): void => {
    if (!given && isOurs(kdamond)) return;
    const why = given ? 'kdamonds were given back' : 'somebody else has set up kdamonds meanwhile';
    throw new KernelInterfaceError('KERNEL_BUSY', why, { path: folder });
  };
  const stat = (kdamond: number, scheme: number, name: string): number =>
    readNumber(`${folder}/${kdamond}/contexts/0/schemes/${scheme}/stats/${name}`) ?? 0;

  return {
    begin: (kdamond, tgid, ranges) =>
      inTurn(async () => {
        mustBeOurs(kdamond);
        const context = `${kdamond}/contexts/0`;
        const cut = cutRanges(ranges, parts, mostPartBytes);
        // With as many parts as there are to be at least, hardly one piece is joined to another; with fewer pieces than the most, and more than half of it, none
        // is joined for want of room, and none cut.
        const count = `${context}/monitoring_attrs/nr_regions`;
        await write(`${count}/min`, Math.max(fewestRegions, cut.parts));
        await write(`${count}/max`, Math.max(fewestRegions, Math.ceil(1.5 * cut.pieces.length)));
        await write(`${context}/targets/0/pid_target`, tgid);
        const regions = `${context}/targets/0/regions`;
        await write(`${regions}/nr_regions`, cut.pieces.length);
        for (const [i, { start, end }] of cut.pieces.entries()) {
          // Some ten µs each, where a write on another thread takes a hundred; others are not held up by all of them, and may take the kdamonds away.
          if (i % piecesAtOnce === 0) {
            await new Promise(setImmediate);
            mustBeOurs(kdamond);
          }
          own.sync(`${regions}/${i}/start`, BigInt(start));
          own.sync(`${regions}/${i}/end`, BigInt(end));
        }
        sampled.set(kdamond, lengthOf(ranges));
        await write(`${kdamond}/state`, 'on');
      }),
    ask: kdamond =>
      inTurn(async () => {
        mustBeOurs(kdamond);
        await write(`${kdamond}/state`, 'update_schemes_stats');
        const usedBytes = stat(kdamond, used, 'sz_tried');
        const allBytes = usedBytes + stat(kdamond, unused, 'sz_tried');
        const windows = Math.round(allBytes / (sampled.get(kdamond) ?? Number.POSITIVE_INFINITY));
        return { windows, usedBytes };
      }),
    end: kdamond =>
      inTurn(async () => {
        if (given || !isOurs(kdamond)) return;
        await write(`${kdamond}/state`, 'off').catch(() => undefined);
        // A thousand folders otherwise, until it is begun anew.
        await write(`${kdamond}/contexts/0/targets/0/regions/nr_regions`, 0).catch(() => undefined);
      }),
    giveBack: () => {
      if (given) return;
      given = true;
      if (isOurs(0)) takeAway(own.sync, kdamonds);
    },
  };
}

function errnoOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function refusal(path: string, text: number | bigint | string, error: unknown): Error {
  const errno = errnoOf(error);
  const codes = { EBUSY: 'KERNEL_BUSY', EACCES: 'KERNEL_PRIVILEGE' } as const;
  return new KernelInterfaceError(
    codes[errno as keyof typeof codes] ?? 'KERNEL_IO',
    `${path} did not take "${text}": ${describeError(error)}`,
    { path, errno },
    error,
  );
}
