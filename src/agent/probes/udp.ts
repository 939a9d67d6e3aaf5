import { KernelInterfaceError } from '../../contract/errors.ts';
import type { Loss, ProbeLosses } from '../../contract/metrics/losses.ts';
import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import { entriesOf, keysOf, lookUpSums, missedRuns, readStats } from './sums.ts';

/** UDP of one cgroup over all CPUs since its first datagram. */
export type UdpTotals = {
  /** Payload. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Calls that received or sent some: one datagram each, or several that the kernel is to divide or has put together. */
  readonly receivedPackets: number;
  readonly sentPackets: number;
};

export type UdpProbe = {
  /** Totals by cgroup id. They never fall while a key stays. */
  readonly readTotals: () => Map<number, UdpTotals>;
  /** Drops the totals of cgroups that have ended; answers what they came to. */
  readonly forget: (cgroupIds: readonly number[]) => Map<number, UdpTotals>;
  readonly lost: () => ProbeLosses<'udp'>;
  readonly stop: () => void | Promise<void>;
};

/** Field offsets of the structures in bpf/udp.h; a test holds them against its BTF. */
export const layout = {
  totals: { receivedBytes: 0, sentBytes: 8, receivedPackets: 16, sentPackets: 24, bytes: 32 },
  stats: { lostInstanceFull: 0, lostInstanceMemory: 8, bytes: 16 },
} as const;

const programs = ['sock_send_length', 'sock_recv_length'] as const;

type UdpProbeOptions = { native: Native; cgroupV1: boolean; maxInstances: number };

/**
 * Loads and attaches bpf/udp.bpf.c.
 * @throws KernelInterfaceError KERNEL_MISSING before Linux 6.3; as `loadProbe`
 * @throws ProbeError as `loadProbe`
 */
export function startUdpProbe(options: UdpProbeOptions): UdpProbe {
  const object = load(options);
  attachOrClose(object, 'udp', () => {
    for (const program of programs) object.attach(program);
  });
  return {
    readTotals: () => decodeUdp(entriesOf(object.readSums('datagrams'))),
    forget: ids => {
      const last = decodeUdp(lookUpSums(object, 'datagrams', ids));
      object.deleteKeys('datagrams', keysOf(ids));
      return last;
    },
    lost: () => readLost(object),
    stop: () => object.close(),
  };
}

function load({ native, cgroupV1, maxInstances }: UdpProbeOptions): BpfObject {
  try {
    return loadProbe(native, 'udp', {
      constants: { cgroup_v1: cgroupV1 },
      maxEntries: { datagrams: maxInstances },
    });
  } catch (error) {
    // What libbpf says of a hook that the kernel's BTF does not have.
    const { cause } = error as { cause?: { code?: string } };
    if (cause?.code !== 'ESRCH') throw error;
    throw new KernelInterfaceError(
      'KERNEL_MISSING',
      `this kernel does not tell what was sent and received on its sockets: the tracepoints ${programs.join(' and ')} came with Linux 6.3`,
      { program: 'udp', remedy: 'Linux 6.3 or newer' },
      error,
    );
  }
}

export function decodeUdp(entries: ReadonlyMap<number, Float64Array>): Map<number, UdpTotals> {
  return new Map([...entries].map(([id, words]) => [id, totalsOf(words)]));
}

function totalsOf(words: Float64Array): UdpTotals {
  const of = (offset: number): number => words[offset / 8] ?? 0;
  const { receivedBytes, sentBytes, receivedPackets, sentPackets } = layout.totals;
  return {
    receivedBytes: of(receivedBytes),
    sentBytes: of(sentBytes),
    receivedPackets: of(receivedPackets),
    sentPackets: of(sentPackets),
  };
}

function readLost(object: BpfObject): Record<Exclude<Loss<'udp'>, 'unnamed'>, number> {
  const { lostInstanceFull, lostInstanceMemory } = layout.stats;
  const sum = readStats(object);
  return {
    map_full: sum(lostInstanceFull),
    memory: sum(lostInstanceMemory),
    recursion: missedRuns(object),
  };
}
