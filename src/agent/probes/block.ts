import type { Loss, ProbeLosses } from '../../contract/metrics/losses.ts';
import {
  attachOrClose,
  type BpfObject,
  loadProbe,
  type MapSums,
  type Native,
} from '../../linux/native.ts';
import { latencySlots } from './latency.ts';
import { missedRuns, readStats } from './sums.ts';

/** In the order of BLOCK_… in bpf/block.h. */
export const diskDirections = ['read', 'write', 'flush', 'discard'] as const;

export type DiskDirection = (typeof diskDirections)[number];

/** I/O of one cgroup on one device in one direction; `device`: major × 2²⁰ + minor of the whole disk. */
export type BlockKey = {
  readonly cgroupId: number;
  readonly device: number;
  readonly direction: DiskDirection;
};

/** Words in the order of `layout.totals`: operations, bytes, the sums, and both runs of slots. */
export const blockWords = {
  operations: 0,
  bytes: 1,
  queueSumNs: 2,
  deviceSumNs: 3,
  queueSlots: 4,
  deviceSlots: 4 + latencySlots,
  end: 4 + 2 * latencySlots,
} as const;

/** What happens to requests on their way, and what of them was not counted, since the probe was started. */
export type BlockStats<Lost> = {
  readonly irregular: { merged: number; requeued: number; in_parts: number; failed: number };
  readonly lost: Lost;
};

type ProgramLosses = Readonly<Record<Exclude<Loss<'block'>, 'unnamed'>, number>>;

/** What one key came to: in the order of `blockWords`. Never falls while the key stays. */
export type BlockEntry = { readonly key: BlockKey; readonly words: Float64Array };

export type BlockProbe<Lost = ProbeLosses<'block'>> = {
  readonly read: () => BlockEntry[];
  /** Drops these keys; answers what those that were there came to. */
  readonly forget: (keys: readonly BlockKey[]) => BlockEntry[];
  readonly stats: () => BlockStats<Lost>;
  readonly stop: () => void;
};

/** Field offsets of the structures in bpf/block.h; a test holds them against its BTF. */
export const layout = {
  key: { cgroupId: 0, device: 8, direction: 12, bytes: 16 },
  totals: {
    operations: 0,
    bytesDone: 8,
    queueSumNs: 16,
    deviceSumNs: 24,
    queueSlots: 32,
    deviceSlots: 1312,
    bytes: 2592,
  },
  stats: {
    merged: 0,
    requeued: 8,
    inParts: 16,
    failed: 24,
    lostFull: 32,
    lostUnseen: 40,
    lostUnfinished: 48,
    lostTotalsFull: 56,
    lostTotalsMemory: 64,
    bytes: 72,
  },
} as const;

/**
 * Loads and attaches bpf/block.bpf.c. The ends first: a request that begins between is seen whole.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function startBlockProbe(options: {
  native: Native;
  cgroupV1: boolean;
  maxInstances: number;
}): BlockProbe<ProgramLosses> {
  const object = loadProbe(options.native, 'block', {
    constants: { cgroup_v1: options.cgroupV1 },
    // Reads, writes and two more keys, of other directions or devices, for each.
    maxEntries: { block: options.maxInstances * 4 },
  });
  attachOrClose(object, 'block', () => {
    for (const event of ['complete', 'merge', 'requeue', 'issue', 'insert'])
      object.attach(`block_rq_${event}`);
  });
  let unseen = 0;
  return {
    read: () => decodeBlock(object.readSums('block')),
    forget: keys => {
      const entries = keys.flatMap(key => {
        const words = object.lookupSums('block', encodeKey(key));
        return words === null ? [] : [{ key, words }];
      });
      if (entries.length > 0)
        object.deleteKeys('block', Buffer.concat(entries.map(({ key }) => encodeKey(key))));
      return entries;
    },
    stats: () => {
      const { irregular, lost } = readBlockStats(object);
      // One that was not followed is taken off at once, and ends later: the difference may fall for a while.
      unseen = Math.max(unseen, lost.unseen);
      return { irregular, lost: { ...lost, unseen } };
    },
    stop: () => object.close(),
  };
}

export function decodeBlock({ keys, sums, count, width }: MapSums): BlockEntry[] {
  return Array.from({ length: count }, (_, entry) => {
    const at = entry * layout.key.bytes;
    const direction = diskDirections[keys.readUInt32LE(at + layout.key.direction)];
    if (direction === undefined) throw new Error('a direction that bpf/block.h does not have');
    const key = {
      cgroupId: Number(keys.readBigUInt64LE(at + layout.key.cgroupId)),
      device: keys.readUInt32LE(at + layout.key.device),
      direction,
    };
    return { key, words: sums.slice(entry * width, (entry + 1) * width) };
  });
}

function encodeKey({ cgroupId, device, direction }: BlockKey): Buffer {
  const key = Buffer.alloc(layout.key.bytes);
  key.writeBigUInt64LE(BigInt(cgroupId), layout.key.cgroupId);
  key.writeUInt32LE(device, layout.key.device);
  key.writeUInt32LE(diskDirections.indexOf(direction), layout.key.direction);
  return key;
}

function readBlockStats(object: BpfObject): BlockStats<ProgramLosses> {
  const sum = readStats(object);
  const { stats } = layout;
  const full = sum(stats.lostFull);
  return {
    irregular: {
      merged: sum(stats.merged),
      requeued: sum(stats.requeued),
      in_parts: sum(stats.inParts),
      failed: sum(stats.failed),
    },
    lost: {
      requests_full: full,
      // Those that were not followed end unseen as well.
      unseen: Math.max(0, sum(stats.lostUnseen) - full),
      unfinished: sum(stats.lostUnfinished),
      map_full: sum(stats.lostTotalsFull),
      memory: sum(stats.lostTotalsMemory),
      recursion: missedRuns(object),
    },
  };
}
