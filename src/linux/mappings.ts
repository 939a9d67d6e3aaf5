import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelInterfaceError } from '../contract/errors.ts';
import { loadProbe, type Native } from './native.ts';
import type { Roots } from './roots.ts';

/** Addresses from `start` up to `end`: of whole pages, so that a number holds each of them as it is. */
export type Range = { readonly start: number; readonly end: number };

/** Layout of `struct mapping_record` in bpf/mappings.h. */
const recordBytes = 16;

export type MappingReader = {
  /**
   * What a process can use memory at, ascending; nothing when it has ended. Waits for its mmap lock.
   * @throws KernelInterfaceError KERNEL_IO while another process keeps this one waiting for that
   */
  readonly of: (tgid: number) => Promise<Range[]>;
  readonly close: () => void;
};

/**
 * Reads the mappings of a process, by an iterator: /proc/PID/maps is closed to who may not trace it. Its mmap lock is held for
 * reading while they are walked through, as it is for a page fault; page tables are not looked at. One process at a time: each takes one of the
 * few threads by which Node reads files and looks up names, for as long as that process likes; others wait for it `patienceMs` at most.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function openMappings(native: Native, patienceMs?: number): MappingReader {
  const object = loadProbe(native, 'mappings');
  return {
    of: inTurns(
      async tgid => [...decodeRanges(await object.iterateThread('mappings', tgid))],
      patienceMs,
    ),
    close: () => object.close(),
  };
}

/**
 * The same of /proc/PID/maps, for who may trace the process, which root may: without an iterator. The lock is held as it is for that.
 * Memory of a device is known by its file alone: what the kernel maps for one without a file in /dev counts as memory.
 */
export function openProcMappings({ proc }: Roots, patienceMs?: number): MappingReader {
  return {
    of: inTurns(async tgid => rangesOf(await readMaps(`${proc}/${tgid}/maps`)), patienceMs),
    close: () => undefined,
  };
}

function inTurns(read: MappingReader['of'], patienceMs = 10_000): MappingReader['of'] {
  let underWay: UnderWay | null = null;
  const free = (): void => {
    underWay = null;
  };
  return async tgid => {
    while (underWay) await endOf(underWay, patienceMs);
    const reading = read(tgid);
    underWay = { tgid, since: performance.now(), ended: reading.then(free, free) };
    return reading;
  };
}

/** Nothing when the process has ended. */
async function readMaps(path: string): Promise<string> {
  try {
    return await readFile(path, 'latin1');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return '';
    throw error;
  }
}

/** Of lines `7f10-7f20 rw-p 00000000 08:01 1234   /path`: not what is reserved, nor the kernel's own, nor a device's. */
function rangesOf(maps: string): Range[] {
  const lines = maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) (...). \S+ \S+ \d+ *(.*)$/gm);
  return [...lines].flatMap(([, start = '', end = '', access, name = '']) =>
    access === '---' || notMemory.test(name)
      ? []
      : [{ start: Number.parseInt(start, 16), end: Number.parseInt(end, 16) }],
  );
}

const notMemory = /^(\[v(syscall|var|var_vclock)\]|\/dev\/(?!shm\/|hugepages|zero))/;

type UnderWay = { readonly tgid: number; readonly since: number; readonly ended: Promise<void> };

async function endOf({ tgid, since, ended }: UnderWay, patienceMs: number): Promise<void> {
  const left = since + patienceMs - performance.now();
  if (left <= 0)
    throw new KernelInterfaceError(
      'KERNEL_IO',
      `process ${tgid} has held its mmap lock for ${patienceMs / 1000} s: until it lets go, no mappings are read`,
      { tgid },
    );
  const inTime = new AbortController();
  await Promise.race([ended, sleep(left, undefined, { signal: inTime.signal, ref: false })]);
  inTime.abort();
}

function* decodeRanges(records: Buffer): Iterable<Range> {
  for (let at = 0; at + recordBytes <= records.length; at += recordBytes)
    yield {
      start: Number(records.readBigUInt64LE(at)),
      end: Number(records.readBigUInt64LE(at + 8)),
    };
}

/** Bytes of all of them. */
export function lengthOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, { start, end }) => sum + end - start, 0);
}

/** No more than `most` ranges, ascending, with all of these in them: the smallest gaps are filled first. */
export function joinRanges(ranges: readonly Range[], most: number): Range[] {
  const gaps = ranges.slice(1).map(({ start }, i) => start - (ranges[i]?.end ?? 0));
  const widest = gaps.toSorted((a, b) => b - a)[most - 1] ?? 0;
  const joined: { start: number; end: number }[] = [];
  for (const { start, end } of ranges) {
    const last = joined.at(-1);
    if (last && start - last.end <= widest) last.end = end;
    else joined.push({ start, end });
  }
  return joined;
}

/** Bytes of `now` that are in none of `before`; both ascending. */
export function newBytes(before: readonly Range[], now: readonly Range[]): number {
  let known = 0;
  let at = 0;
  for (const { start, end } of now) {
    while ((before[at]?.end ?? Number.POSITIVE_INFINITY) <= start) at += 1;
    for (let i = at; i < before.length; i += 1) {
      const range = before[i];
      if (!range || range.start >= end) break;
      known += Math.min(end, range.end) - Math.max(start, range.start);
    }
  }
  return lengthOf(now) - known;
}

/** The size of a page, or a multiple of it. */
const grain = (process.arch === 'x64' ? 4 : 64) << 10;

/**
 * Cuts ranges, as if they lay end to end, into parts of equal size; of none more than `mostBytes`. A part that lies in several ranges is
 * as many pieces.
 */
export function cutRanges(
  ranges: readonly Range[],
  parts: number,
  mostBytes: number,
): { readonly parts: number; readonly pieces: readonly Range[] } {
  const all = lengthOf(ranges);
  const size = Math.min(Math.ceil(all / parts / grain) * grain, mostBytes);
  const pieces: Range[] = [];
  let room = size;
  for (const { start, end } of ranges)
    for (let at = start; at < end; ) {
      const next = Math.min(end, at + room);
      pieces.push({ start: at, end: next });
      room = next - at === room ? size : room - (next - at);
      at = next;
    }
  return { parts: Math.ceil(all / size), pieces };
}
