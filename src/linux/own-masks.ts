import { type BpfObject, loadProbe, type Native } from './native.ts';

/** A thread and whether it asked for a CPU mask of its own; null where the kernel does not tell (before 6.2). */
export type OwnMask = {
  readonly tgid: number;
  readonly startTicks: number;
  readonly ownMask: boolean | null;
};

/** Layout of `struct mask_record` in bpf/affinity.h. */
const recordBytes = 24;

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
export function openOwnMasks(native: Native): OwnMaskReader {
  const object: BpfObject = loadProbe(native, 'affinity');
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
  for (let at = 0; at + recordBytes <= records.length; at += recordBytes) {
    const own = records.readInt32LE(at + 16);
    yield [
      records.readUInt32LE(at + 8),
      {
        tgid: records.readUInt32LE(at + 12),
        startTicks: Math.floor(Number(records.readBigUInt64LE(at)) / nsPerTick),
        ownMask: own < 0 ? null : own === 1,
      },
    ];
  }
}
