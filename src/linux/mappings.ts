import { type BpfObject, loadProbe, type Native } from './native.ts';

/** Addresses from `start` up to `end`: of whole pages, so that a number holds each of them as it is. */
export type Range = { readonly start: number; readonly end: number };

/** Layout of `struct mapping_record` in bpf/mappings.h. */
const recordBytes = 16;

export type MappingReader = {
  /** What a process can use memory at, ascending; nothing when it has ended. */
  readonly of: (tgid: number) => Range[];
  readonly close: () => void;
};

/**
 * Reads the mappings of a process, by an iterator: /proc/PID/maps is closed to who may not trace it. Its mmap lock is held for
 * reading while they are walked through, as it is for a page fault; page tables are not looked at.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function openMappings(native: Native): MappingReader {
  const object: BpfObject = loadProbe(native, 'mappings');
  return {
    of: tgid => [...decodeRanges(object.iterate('mappings', tgid))],
    close: () => object.close(),
  };
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

/** A multiple of every kernel's page. */
const grain = 64 << 10;

/**
 * Cuts ranges, as if they lay end to end, into so many parts of equal size: fewer where those would be smaller than 64 KiB. A part that
 * lies in several ranges is as many pieces.
 */
export function cutRanges(ranges: readonly Range[], parts: number): Range[] {
  const size = Math.ceil(lengthOf(ranges) / parts / grain) * grain;
  const pieces: Range[] = [];
  let room = size;
  for (const { start, end } of ranges)
    for (let at = start; at < end; ) {
      const next = Math.min(end, at + room);
      pieces.push({ start: at, end: next });
      room = next - at === room ? size : room - (next - at);
      at = next;
    }
  return pieces;
}
