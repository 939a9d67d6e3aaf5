import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import { deviceNumbers, readDiskName } from '../../linux/disks.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Sample } from '../../otlp/sample.ts';
import { startBlockScript } from '../bpftrace/block-script.ts';
import { scriptContextOf } from '../bpftrace/script.ts';
import {
  type BlockEntry,
  type BlockKey,
  type BlockProbe,
  blockWords,
  diskDirections,
  startBlockProbe,
} from '../probes/block.ts';
import { exponentialHistogram, latencySlots } from '../probes/latency.ts';
import { type Lives, livesOf } from '../sources/lives.ts';
import type { ComesAndGoes, SourceKind } from '../sources/source.ts';
import { createStrays } from '../sources/strays.ts';
import { createDiskBook, type DiskChange, type DiskSums } from './disk-book.ts';

/** How long block I/O waits and takes, and how much it is, by device: from the kernel by bpf/block.bpf.c. */
export const blockSource: SourceKind = {
  name: 'block',
  tells: 'latency, bytes and operations of block devices',
  needs: bpfCapabilities,
  start: context => {
    const { native, layout, roots, config } = context;
    const scripts = scriptContextOf(context);
    const probe: BlockProbe & ComesAndGoes = scripts
      ? startBlockScript(scripts)
      : startBlockProbe({
          native,
          cgroupV1: layout.version === 1,
          maxInstances: config.maxInstances,
        });
    const book = createDiskBook();
    const changes = createChanges();
    const names = createDiskNames(roots);
    const strays = createStrays();
    let devices: ReadonlySet<number> = new Set();
    let stats = probe.stats();
    let unnamed = 0;

    const take = (entries: readonly BlockEntry[], lives: Lives): void => {
      book.take(
        entries.flatMap((entry): DiskChange[] => {
          const living = lives.get(entry.key.cgroupId);
          const words = living ? changes.since(entry) : null;
          if (!living || !words) return [];
          const { device, direction } = entry.key;
          return [{ living, device: names.of(device), direction, words }];
        }),
      );
    };
    const drop = (keys: readonly BlockKey[], lives: Lives): void => {
      const entries = probe.forget(keys);
      take(entries, lives);
      for (const { key, words } of entries)
        if (!lives.get(key.cgroupId)) unnamed += words[blockWords.operations] ?? 0;
    };
    /** Of cgroups without a task of their own, and of those that I/O was done for after their end. */
    const dropStrays = (keys: readonly BlockKey[], lives: Lives): void => {
      const ids = keys.map(({ cgroupId }) => cgroupId).filter(id => !lives.get(id));
      const dropped = new Set(strays.take(ids));
      drop(
        keys.filter(({ cgroupId }) => dropped.has(cgroupId)),
        lives,
      );
    };

    return {
      name: 'block',
      read: living => {
        const lives = livesOf(living);
        const entries = probe.read();
        const keys = entries.map(({ key }) => key);
        devices = new Set(keys.map(({ device }) => device));
        names.refresh(devices);
        take(entries, lives);
        dropStrays(keys, lives);
        stats = probe.stats();
      },
      samples: living => book.of(living).flatMap(disk => diskSamples(disk, living.start)),
      host: () =>
        Object.entries(stats.irregular).map(([reason, value]) => ({
          metric: 'sculptor.disk.irregular',
          attributes: { [attr.reason]: reason },
          value,
        })),
      lost: () => ({ ...stats.lost, unnamed }),
      forget: gone => {
        drop(keysOf(gone.keys(), devices), gone);
        changes.forget(gone.keys());
      },
      trouble: probe.trouble,
      attached: probe.attached,
      stop: probe.stop,
    };
  },
};

/** What came to each key since it was read last; null: nothing. */
function createChanges(): {
  since: (entry: BlockEntry) => Float64Array | null;
  forget: (cgroupIds: Iterable<number>) => void;
} {
  const last = new Map<number, Map<string, Float64Array>>();
  return {
    since: ({ key: { cgroupId, device, direction }, words }) => {
      const ofCgroup = last.get(cgroupId) ?? new Map<string, Float64Array>();
      const before = ofCgroup.get(`${device} ${direction}`);
      last.set(cgroupId, ofCgroup.set(`${device} ${direction}`, words));
      if (!before) return words;
      const change = words.map((word, i) => word - (before[i] ?? 0));
      return change.some(word => word !== 0) ? change : null;
    },
    forget: ids => {
      for (const id of ids) last.delete(id);
    },
  };
}

/** Names of devices as they were when they were last there. */
function createDiskNames(roots: Roots): {
  refresh: (devices: ReadonlySet<number>) => void;
  of: (device: number) => string;
} {
  const names = new Map<number, string>();
  return {
    refresh: devices => {
      for (const device of names.keys()) if (!devices.has(device)) names.delete(device);
      for (const device of devices) {
        const name = readDiskName(roots, device);
        if (name !== null) names.set(device, name);
      }
    },
    of: device => names.get(device) ?? deviceNumbers(device),
  };
}

/** A key of a device that none had used at the last reading is found as a stray. */
function keysOf(cgroupIds: Iterable<number>, devices: ReadonlySet<number>): BlockKey[] {
  return [...cgroupIds].flatMap(cgroupId =>
    [...devices].flatMap(device =>
      diskDirections.map(direction => ({ cgroupId, device, direction })),
    ),
  );
}

function diskSamples({ device, sums }: DiskSums, start: number): Sample[] {
  return [...sums].flatMap(([direction, words]) => {
    const attributes = { [attr.device]: device, [attr.diskDirection]: direction };
    const latency = (phase: string, sumNs: number, from: number): Sample => {
      const slots = words.subarray(from, from + latencySlots);
      const latencyCount = slots.reduce((sum, slot) => sum + slot, 0);
      const value = exponentialHistogram({ latencyCount, latencySumNs: words[sumNs] ?? 0, slots });
      const all = { [attr.diskPhase]: phase, ...attributes };
      return { metric: 'sculptor.disk.latency', attributes: all, start, value };
    };
    const of = (metric: Sample['metric'], word: number): Sample => ({
      metric,
      attributes,
      start,
      value: words[word] ?? 0,
    });
    const moves = direction === 'read' || direction === 'write';
    return [
      ...(moves ? [of('container.disk.io', blockWords.bytes)] : []),
      of('sculptor.disk.operations', blockWords.operations),
      latency('queue', blockWords.queueSumNs, blockWords.queueSlots),
      latency('device', blockWords.deviceSumNs, blockWords.deviceSlots),
    ];
  });
}
