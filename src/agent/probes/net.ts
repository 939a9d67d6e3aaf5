import type { Loss, ProbeLosses } from '../../contract/metrics/losses.ts';
import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import { type Latencies, latencySlots } from './latency.ts';
import { entriesOf, keysOf, lookUpSums, missedRuns, readStats } from './sums.ts';

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

export type NetProbe = {
  /** Charges what the sockets have counted since the last look to their owners. */
  readonly look: () => void;
  /** Finds who holds each socket now. */
  readonly own: () => void;
  /** Totals by cgroup id as of the last `look`. They never fall while a key stays. */
  readonly readTotals: () => Map<number, NetTotals>;
  /** Drops the totals of cgroups that have ended; answers what they came to. */
  readonly forget: (cgroupIds: readonly number[]) => Map<number, NetTotals>;
  readonly lost: () => ProbeLosses<'net'>;
  readonly stop: () => void | Promise<void>;
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
    readTotals: () => decodeNet(entriesOf(object.readSums('networks'))),
    forget: ids => {
      const last = decodeNet(lookUpSums(object, 'networks', ids));
      object.deleteKeys('networks', keysOf(ids));
      return last;
    },
    lost: () => readLost(object),
    stop: () => object.close(),
  };
}

export function decodeNet(entries: ReadonlyMap<number, Float64Array>): Map<number, NetTotals> {
  return new Map([...entries].map(([id, words]) => [id, totalsOf(words)]));
}

function totalsOf(words: Float64Array): NetTotals {
  const { rttSlots, ...fields } = layout.totals;
  const of = (offset: number): number => words[offset / 8] ?? 0;
  return {
    receivedBytes: of(fields.receivedBytes),
    sentBytes: of(fields.sentBytes),
    receivedPackets: of(fields.receivedPackets),
    sentPackets: of(fields.sentPackets),
    retransmits: of(fields.retransmits),
    rtt: {
      latencyCount: of(fields.rttCount),
      latencySumNs: of(fields.rttSumNs),
      slots: words.slice(rttSlots / 8, rttSlots / 8 + latencySlots),
    },
  };
}

function readLost(object: BpfObject): Record<Exclude<Loss<'net'>, 'unnamed'>, number> {
  const { lostSocketStorage, lostInstanceFull, lostInstanceMemory, lostOwner } = layout.stats;
  const sum = readStats(object);
  return {
    socket_storage: sum(lostSocketStorage),
    map_full: sum(lostInstanceFull),
    memory: sum(lostInstanceMemory),
    owner: sum(lostOwner),
    recursion: missedRuns(object),
  };
}
