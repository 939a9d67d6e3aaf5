import { type BpfObject, loadProbe, type Native } from './native.ts';
import type { Roots } from './roots.ts';
import { readCpuIds } from './topology.ts';

/**
 * A thread and whether it asked for a CPU mask of its own; null where the kernel does not tell (before 6.2). `asked`: that mask, of
 * which its cpuset may hide a part; null where there is none, or it was not read.
 */
export type OwnMask = {
  readonly tgid: number;
  readonly startTicks: number;
  readonly ownMask: boolean | null;
  readonly asked: readonly number[] | null;
};

/** Layout of `struct mask_record` in bpf/affinity.h; the words of the mask follow. */
const recordBytes = 24;
const wordBytes = 8;

/** /proc/PID/stat counts in USER_HZ, which is 100 on every architecture that this runs on. */
export const nsPerTick = 10_000_000;

export type OwnMaskReader = {
  readonly read: () => Map<number, OwnMask>;
  readonly close: () => void;
};

/**
 * Reads `task_struct.user_cpus_ptr` of every thread, by an iterator: procfs does not show it.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function openOwnMasks(native: Native, roots: Roots): OwnMaskReader {
  const words = Math.ceil((Math.max(...readCpuIds(roots).possible, 0) + 1) / 64);
  const object: BpfObject = loadProbe(native, 'affinity', { constants: { mask_words: words } });
  return {
    read: () => new Map(decodeMasks(object.iterate('own_masks'))),
    close: () => object.close(),
  };
}

/** The threads that asked for a mask of their own; null where the kernel does not tell. */
export type MaskedThreads = {
  readonly read: () => ReadonlySet<number> | null;
  readonly close: () => void;
};

/**
 * The same, of those alone that have one.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function openMaskedThreads(native: Native): MaskedThreads {
  const object = loadProbe(native, 'affinity', { constants: { only_own: true } });
  return {
    read: () => {
      const tids = new Set<number>();
      for (const [tid, { ownMask }] of decodeMasks(object.iterate('own_masks'))) {
        if (ownMask === null) return null;
        tids.add(tid);
      }
      return tids;
    },
    close: () => object.close(),
  };
}

function* decodeMasks(records: Buffer): Iterable<[tid: number, mask: OwnMask]> {
  for (let at = 0; at + recordBytes <= records.length; ) {
    const own = records.readInt32LE(at + 16);
    const end = at + recordBytes + records.readUInt32LE(at + 20) * wordBytes;
    yield [
      records.readUInt32LE(at + 8),
      {
        tgid: records.readUInt32LE(at + 12),
        startTicks: Math.floor(Number(records.readBigUInt64LE(at)) / nsPerTick),
        ownMask: own < 0 ? null : own === 1,
        asked: end > at + recordBytes ? cpusIn(records.subarray(at + recordBytes, end)) : null,
      },
    ];
    at = end;
  }
}

function cpusIn(mask: Buffer): number[] {
  const cpus: number[] = [];
  for (const [i, byte] of mask.entries())
    for (let bit = 0; bit < 8; bit += 1) if (byte & (1 << bit)) cpus.push(i * 8 + bit);
  return cpus;
}
