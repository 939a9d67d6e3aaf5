import { KernelInterfaceError } from '../contract/errors.ts';
import { type CgroupLayout, cgroupFolder, cgroupIdOf, walkCgroups } from '../linux/cgroups.ts';
import {
  type CgroupMemory,
  findMemoryHierarchy,
  type MemoryHierarchy,
  type NodePages,
  readCgroupMemory,
  readHugePageSizes,
  readNodePages,
} from '../linux/memory.ts';
import { pressuresBy, readCgroupPressure } from '../linux/pressure.ts';
import { listFolder } from '../linux/read-file.ts';
import { readNodeOfCpu } from '../linux/topology.ts';
import { createHostMemory } from './host-memory.ts';
import type { LivingInstance } from './instances.ts';
import { createLocality } from './locality.ts';
import {
  type Counted,
  counterSamples,
  counterSeries,
  countersOf,
  gaugeSamples,
} from './memory-series.ts';
import { createReadingTurns } from './reading-turns.ts';
import type { Source, SourceContext, SourceKind } from './source.ts';
import { createTally } from './tally.ts';

/**
 * Memory of each instance as its cgroup's files tell it: usage, pages by node, faults, reclaim, pressure. Never a task's
 * numa_maps or smaps, which hold its mmap lock.
 */
export const memorySource: SourceKind = {
  name: 'memory',
  tells: 'usage, working set, pages by node, faults, reclaim and pressure of instances',
  start: context => {
    const hierarchy = findMemoryHierarchy(context.roots);
    if (hierarchy === null)
      throw new KernelInterfaceError(
        'KERNEL_MISSING',
        'the memory controller of cgroups is not there: neither mounted as v1, nor enabled on v2',
        { path: `${context.roots.proc}/self/mountinfo` },
      );
    return startMemorySource(context, hierarchy);
  },
};

/** One reading of one instance. */
type Reading = Counted & {
  readonly memory: CgroupMemory;
  readonly pages: NodePages | null;
};

function startMemorySource(context: SourceContext, hierarchy: MemoryHierarchy): Source {
  const { roots, layout, clock, config, runByCpu } = context;
  const severalNodes = listFolder(`${roots.sys}/devices/system/node`).filter(isNode).length > 1;
  const series = counterSeries('container.memory.paging.faults', severalNodes);
  const tally = createTally(series.length);
  const readings = new WeakMap<LivingInstance, Reading>();
  const since = new WeakMap<LivingInstance, number>();
  // What these have counted was before this source; what comes later is counted from its beginning.
  const old = new Set(walkCgroups(layout).paths.keys());
  const host = createHostMemory(roots, severalNodes);
  const locality = createLocality();
  let hugePages: readonly string[] = [];

  const take = (living: LivingInstance): void => {
    const id = cgroupIdOf(layout, living.path);
    const reading = id === null ? null : readInstance(hierarchy, layout, living, hugePages);
    if (id === null || reading === null) return;
    const counters = countersOf(series, reading);
    const anew = tally.knows(id) || !old.has(id);
    if (!anew) tally.begin(id, counters);
    if (!since.has(living)) since.set(living, anew ? living.start : clock.unixSeconds());
    tally.add(living, id, counters);
    readings.set(living, reading);
  };
  const turns = createReadingTurns(clock, config.detailIntervalSeconds, take);

  return {
    name: 'memory',
    read: living => {
      host.read();
      hugePages = readHugePageSizes(roots);
      if (severalNodes) locality.read(living, runByCpu(), readNodeOfCpu(roots));
      turns.next(living);
    },
    samples: living => {
      const reading = readings.get(living);
      const start = since.get(living);
      if (reading === undefined || start === undefined) return [];
      const local = reading.pages && locality.localShare(living, reading.pages);
      return [
        ...gaugeSamples(reading.memory, reading.pages, local),
        ...counterSamples(series, reading, tally.of(living)),
      ].map(sample => ({ ...sample, start }));
    },
    host: host.samples,
    lost: () => ({}),
    forget: gone => {
      tally.forget(gone.keys());
      for (const id of gone.keys()) old.delete(id);
    },
    stop: turns.stop,
  };
}

const isNode = (name: string): boolean => /^node\d+$/.test(name);

/** On v1 a cgroup's tasks and those below it are different instances, but for a VM, which is all of them. */
function readInstance(
  hierarchy: MemoryHierarchy,
  layout: CgroupLayout,
  { path, instance }: LivingInstance,
  hugePages: readonly string[],
): Reading | null {
  const isVm = instance.kind === 'vm';
  const memory = readCgroupMemory(hierarchy, path, isVm);
  if (memory === null) return null;
  return {
    memory,
    counts: memory.counts,
    pages: readNodePages(hierarchy, path, isVm, hugePages),
    pressure:
      layout.version === 1
        ? new Map()
        : pressuresBy(resource => readCgroupPressure(cgroupFolder(layout.cpu, path), resource)),
  };
}
