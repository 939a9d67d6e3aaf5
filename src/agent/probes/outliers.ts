import type { Outlier } from '../../contract/outlier.ts';
import { attachOrClose, type BpfObject, loadProbe, type Native } from '../../linux/native.ts';
import { nsPerTick } from '../../linux/own-masks.ts';
import type { ComesAndGoes } from '../sources/source.ts';
import { uint64, viewOf } from './latency.ts';
import { readStats } from './sums.ts';

export type Party = {
  readonly cgroupId: number;
  readonly tid: number;
  readonly tgid: number;
  readonly name: string;
};

/** As `enum wait_began` in bpf/outliers.h numbers them. */
export const waysToBegin: readonly Outlier['began'][] = ['woken', 'preempted', 'throttled'];

/** One wait, as bpf/outliers.bpf.c tells it. */
export type RawOutlier = {
  /** CLOCK_MONOTONIC, ns. */
  readonly endedNs: number;
  readonly latencyNs: number;
  /** What a quota held it back meanwhile; no part of the latency. */
  readonly throttledNs: number;
  readonly startTicks: number;
  readonly waiter: Party;
  readonly began: Outlier['began'];
  /** Null where it was not woken, or by an interrupt. */
  readonly waker: Party | null;
  readonly preemptor: Party | null;
  readonly cpu: number;
  /** Addresses in the kernel, innermost first; empty where it could not be had. */
  readonly stack: readonly bigint[];
};

/** Since the probe was started. `found` is all of them, whatever became of them. */
export type OutlierCounts = Readonly<Record<'found' | 'limited' | 'full' | 'memory', number>>;

export type OutlierProbe = ComesAndGoes & {
  /** Those since the last call, oldest first. */
  readonly take: () => RawOutlier[];
  readonly counts: () => OutlierCounts;
};

/** Offsets and sizes of the structures in bpf/outliers.h; a test holds them against its BTF. */
export const layout = {
  party: { cgroupId: 0, tid: 8, tgid: 12, comm: 16, bytes: 32 },
  outlier: {
    endedNs: 0,
    latencyNs: 8,
    throttledNs: 16,
    startBoottimeNs: 24,
    waiter: 32,
    waker: 64,
    preemptor: 96,
    began: 128,
    padding: 132,
    cpu: 136,
    stackBytes: 140,
    stack: 144,
    bytes: 272,
  },
  stats: { found: 0, limited: 8, full: 16, memory: 24, bytes: 32 },
} as const;

/**
 * What follows a wait, what ends it, and what tells who begins one, before what begins it. The end of an interrupt before its
 * beginning: one that ends without having begun is nothing, and one that never ends would take every waker on its CPU away.
 */
const programs = [
  'outlier_migrate_task',
  'outlier_switch',
  'outlier_device_exit',
  'outlier_device_entry',
  'outlier_timer_exit',
  'outlier_timer_entry',
  'outlier_softirq_exit',
  'outlier_softirq_entry',
  'outlier_waking',
  'outlier_wakeup',
  'outlier_wakeup_new',
] as const;

/**
 * Loads and attaches bpf/outliers.bpf.c.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function startOutlierProbe(options: {
  readonly native: Native;
  readonly cgroupV1: boolean;
  readonly aboveSeconds: number;
  readonly perInstancePerSecond: number;
}): OutlierProbe {
  const object = loadProbe(options.native, 'outliers', {
    constants: {
      cgroup_v1: options.cgroupV1,
      threshold_ns: BigInt(Math.round(options.aboveSeconds * 1e9)),
      most_per_second: BigInt(options.perInstancePerSecond),
    },
  });
  attachOrClose(object, 'outliers', () => {
    for (const program of programs) object.attach(program);
  });
  return {
    take: () =>
      decodeOutliers(object.takeMap('outliers').values).sort((a, b) => a.endedNs - b.endedNs),
    counts: () => readCounts(object),
    stop: () => object.close(),
  };
}

export function decodeOutliers(values: Buffer): RawOutlier[] {
  const view = viewOf(values);
  const { outlier } = layout;
  const decoded: RawOutlier[] = [];
  for (let at = 0; at + outlier.bytes <= values.length; at += outlier.bytes) {
    const waiter = partyAt(values, view, at + outlier.waiter);
    const began = waysToBegin[view.getUint32(at + outlier.began, true)];
    if (waiter === null || began === undefined) continue;
    decoded.push({
      endedNs: uint64(view, at + outlier.endedNs),
      latencyNs: uint64(view, at + outlier.latencyNs),
      throttledNs: uint64(view, at + outlier.throttledNs),
      startTicks: Math.floor(uint64(view, at + outlier.startBoottimeNs) / nsPerTick),
      waiter,
      began,
      waker: partyAt(values, view, at + outlier.waker),
      preemptor: partyAt(values, view, at + outlier.preemptor),
      cpu: view.getUint32(at + outlier.cpu, true),
      stack: stackAt(values, view, at),
    });
  }
  return decoded;
}

/** Null: nobody. */
function partyAt(values: Buffer, view: DataView, at: number): Party | null {
  const { party } = layout;
  const tid = view.getUint32(at + party.tid, true);
  if (tid === 0) return null;
  const comm = values.subarray(at + party.comm, at + party.bytes);
  const end = comm.indexOf(0);
  return {
    cgroupId: uint64(view, at + party.cgroupId),
    tid,
    tgid: view.getUint32(at + party.tgid, true),
    name: comm.toString('utf8', 0, end < 0 ? comm.length : end),
  };
}

function stackAt(values: Buffer, view: DataView, at: number): bigint[] {
  const { stackBytes, stack } = layout.outlier;
  const length = Math.max(0, view.getInt32(at + stackBytes, true)) >> 3;
  return Array.from({ length }, (_, nth) => values.readBigUInt64LE(at + stack + nth * 8));
}

function readCounts(object: BpfObject): OutlierCounts {
  const { stats } = layout;
  const sum = readStats(object);
  return {
    found: sum(stats.found),
    limited: sum(stats.limited),
    full: sum(stats.full),
    memory: sum(stats.memory),
  };
}
