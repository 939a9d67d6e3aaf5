import { KernelInterfaceError } from '../../contract/errors.ts';
import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import { uint64 } from './latency.ts';

/** UDP of one cgroup over all CPUs since its first datagram. */
export type UdpTotals = {
  /** Payload. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Calls that received or sent some: one datagram each, or several that the kernel is to divide or has put together. */
  readonly receivedPackets: number;
  readonly sentPackets: number;
};

/** Why calls were not counted. */
export type LostDatagrams =
  /** The map of cgroups is full. */
  | 'map_full'
  /** No memory for one more cgroup. */
  | 'memory'
  /** The program was interrupted by an event of its own kind. */
  | 'recursion';

export type UdpProbe = {
  /** Totals by cgroup id. They never fall while a key stays. */
  readonly readTotals: () => Map<number, UdpTotals>;
  /** Drops the totals of cgroups that have ended; answers what they came to. */
  readonly forget: (cgroupIds: readonly number[]) => Map<number, UdpTotals>;
  readonly lost: () => Readonly<Record<LostDatagrams, number>>;
  readonly stop: () => void;
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
    readTotals: () => decodeUdp(object.readMap('datagrams')),
    forget: ids => {
      const keys = Buffer.alloc(ids.length * 8);
      for (const [i, id] of ids.entries()) keys.writeBigUInt64LE(BigInt(id), i * 8);
      const last = lookUp(object, keys);
      object.deleteKeys('datagrams', keys);
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
      { program: 'udp' },
      error,
    );
  }
}

/** Sums the values of all CPUs. */
export function decodeUdp(map: ReturnType<BpfObject['readMap']>): Map<number, UdpTotals> {
  const { keys, values, cpus, count, valueSize } = map;
  const view = viewOf(values);
  const totals = new Map<number, UdpTotals>();
  for (let entry = 0; entry < count; entry += 1) {
    const of = (field: number): number =>
      sumOver(view, entry * cpus * valueSize + field, valueSize, cpus);
    const { receivedBytes, sentBytes, receivedPackets, sentPackets } = layout.totals;
    // A batch may answer an entry twice when the table grows meanwhile: the later one holds.
    totals.set(Number(keys.readBigUInt64LE(entry * 8)), {
      receivedBytes: of(receivedBytes),
      sentBytes: of(sentBytes),
      receivedPackets: of(receivedPackets),
      sentPackets: of(sentPackets),
    });
  }
  return totals;
}

function lookUp(object: BpfObject, keys: Buffer): Map<number, UdpTotals> {
  const last = new Map<number, UdpTotals>();
  const valueSize = layout.totals.bytes;
  for (let at = 0; at < keys.length; at += 8) {
    const key = keys.subarray(at, at + 8);
    const values = object.lookup('datagrams', key);
    if (values === null) continue;
    const cpus = values.length / valueSize;
    for (const [id, totals] of decodeUdp({ count: 1, cpus, valueSize, keys: key, values }))
      last.set(id, totals);
  }
  return last;
}

function readLost(object: BpfObject): Record<LostDatagrams, number> {
  const { lostInstanceFull, lostInstanceMemory, bytes } = layout.stats;
  // One entry of an array, key 0: the values of all CPUs.
  const values = object.lookup('stats', Buffer.alloc(4)) ?? Buffer.alloc(0);
  const sum = (field: number): number =>
    sumOver(viewOf(values), field, bytes, values.length / bytes);
  return {
    map_full: sum(lostInstanceFull),
    memory: sum(lostInstanceMemory),
    recursion: Object.values(object.programStats()).reduce((n, { missed }) => n + missed, 0),
  };
}

function sumOver(view: DataView, at: number, stride: number, cpus: number): number {
  let total = 0;
  for (let cpu = 0; cpu < cpus; cpu += 1) total += uint64(view, at + cpu * stride);
  return total;
}

function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}
