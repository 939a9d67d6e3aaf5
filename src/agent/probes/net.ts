import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import { type Latencies, latencySlots, uint64 } from './latency.ts';

/** TCP of one cgroup since its first socket. */
export type NetTotals = {
  /** Payload, each byte once; what was sent again is in `retransmits`. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Segments, with those that only acknowledge. */
  readonly receivedPackets: number;
  readonly sentPackets: number;
  /** Segments that were sent again. */
  readonly retransmits: number;
  /** Smoothed round-trip times of connections, each at most once a look, when something was acknowledged since. */
  readonly rtt: Latencies;
};

/** Why something was not counted. */
export type LostTraffic =
  /** No memory to follow one more socket. */
  | 'socket_storage'
  /** The map of cgroups is full. */
  | 'map_full'
  /** No memory for one more cgroup. */
  | 'memory'
  /**
   * A connection ended whose owner was not known (such as one that nobody held any more when the probe was loaded), had
   * gone, or could not be counted for.
   */
  | 'owner'
  /** The program was interrupted by an event of its own kind. */
  | 'recursion';

export type NetProbe = {
  /** Charges what the sockets have counted since the last look to their owners. */
  readonly look: () => void;
  /** Finds who holds each socket now. */
  readonly own: () => void;
  /** Totals by cgroup id as of the last `look`. They never fall while a key stays. */
  readonly readTotals: () => Map<number, NetTotals>;
  /** Drops the totals of cgroups that have ended; answers what they came to. */
  readonly forget: (cgroupIds: readonly number[]) => Map<number, NetTotals>;
  readonly lost: () => Readonly<Record<LostTraffic, number>>;
  readonly stop: () => void;
};

/** Field offsets of the structures in bpf/net.h; a test holds them against its BTF. */
export const layout = {
  totals: {
    receivedBytes: 0,
    sentBytes: 8,
    receivedPackets: 16,
    sentPackets: 24,
    retransmits: 32,
    rttCount: 40,
    rttSumNs: 48,
    rttSlots: 56,
    bytes: 1336,
  },
  stats: {
    lostSocketStorage: 0,
    lostInstanceFull: 8,
    lostInstanceMemory: 16,
    lostOwner: 24,
    bytes: 32,
  },
} as const;

/**
 * Loads and attaches bpf/net.bpf.c, then takes up the sockets that are there already: the hook first, so that none is born
 * unseen in between.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function startNetProbe(options: {
  native: Native;
  cgroupV1: boolean;
  maxInstances: number;
}): NetProbe {
  const object = loadProbe(options.native, 'net', {
    constants: { cgroup_v1: options.cgroupV1 },
    maxEntries: { networks: options.maxInstances },
    dispensable: ['charge_sockets'],
  });
  const walksSockets = object.programStats()['charge_sockets'] !== undefined;
  attachOrClose(object, 'net', () => {
    object.attach('inet_sock_set_state');
    object.iterate('baseline');
  });
  return {
    look: () =>
      void (walksSockets
        ? object.iterate('charge_sockets', 'sockets')
        : object.iterate('own_sockets')),
    own: () => void object.iterate('own_sockets'),
    readTotals: () => decodeNet(object.readMap('networks')),
    forget: ids => {
      const last = new Map<number, NetTotals>();
      const keys = Buffer.alloc(ids.length * 8);
      for (const [i, id] of ids.entries()) {
        keys.writeBigUInt64LE(BigInt(id), i * 8);
        const value = object.lookup('networks', keys.subarray(i * 8, i * 8 + 8));
        if (value) last.set(id, totalsAt(viewOf(value), 0));
      }
      object.deleteKeys('networks', keys);
      return last;
    },
    lost: () => readLost(object),
    stop: () => object.close(),
  };
}

export function decodeNet(map: ReturnType<BpfObject['readMap']>): Map<number, NetTotals> {
  const { keys, values, count, valueSize } = map;
  const view = viewOf(values);
  const totals = new Map<number, NetTotals>();
  // A batch may answer an entry twice when the table grows meanwhile: the later one holds.
  for (let entry = 0; entry < count; entry += 1)
    totals.set(Number(keys.readBigUInt64LE(entry * 8)), totalsAt(view, entry * valueSize));
  return totals;
}

function totalsAt(view: DataView, at: number): NetTotals {
  const fields = layout.totals;
  const slots = new Float64Array(latencySlots);
  for (let slot = 0; slot < latencySlots; slot += 1)
    slots[slot] = uint64(view, at + fields.rttSlots + slot * 8);
  return {
    receivedBytes: uint64(view, at + fields.receivedBytes),
    sentBytes: uint64(view, at + fields.sentBytes),
    receivedPackets: uint64(view, at + fields.receivedPackets),
    sentPackets: uint64(view, at + fields.sentPackets),
    retransmits: uint64(view, at + fields.retransmits),
    rtt: {
      latencyCount: uint64(view, at + fields.rttCount),
      latencySumNs: uint64(view, at + fields.rttSumNs),
      slots,
    },
  };
}

function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

function readLost(object: BpfObject): Record<LostTraffic, number> {
  const { lostSocketStorage, lostInstanceFull, lostInstanceMemory, lostOwner, bytes } =
    layout.stats;
  // One entry of an array, key 0: the values of all CPUs.
  const values = object.lookup('stats', Buffer.alloc(4)) ?? Buffer.alloc(0);
  const view = viewOf(values);
  const sum = (field: number): number => {
    let total = 0;
    for (let at = field; at < values.length; at += bytes) total += uint64(view, at);
    return total;
  };
  return {
    socket_storage: sum(lostSocketStorage),
    map_full: sum(lostInstanceFull),
    memory: sum(lostInstanceMemory),
    owner: sum(lostOwner),
    recursion: Object.values(object.programStats()).reduce((n, { missed }) => n + missed, 0),
  };
}
