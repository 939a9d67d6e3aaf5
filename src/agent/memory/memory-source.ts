import { KernelInterfaceError } from '../../contract/errors.ts';
import type { Loss } from '../../contract/metrics/losses.ts';
import { type CgroupLayout, cgroupFolder, cgroupIdOf, walkCgroups } from '../../linux/cgroups.ts';
import {
  type CgroupMemory,
  findMemoryHierarchy,
  listMemoryNodes,
  type MemoryHierarchy,
  type NodePages,
  readCgroupMemory,
  readHugePageSizes,
  readNodePages,
} from '../../linux/memory.ts';
import { pressuresBy, readCgroupPressure } from '../../linux/pressure.ts';
import { readNodeOfCpu } from '../../linux/topology.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { Counters } from '../sources/counters.ts';
import { createReadingTurns } from '../sources/reading-turns.ts';
import type { Source, SourceContext, SourceKind } from '../sources/source.ts';
import { createHostMemory } from './host-memory.ts';
import { createLocality } from './locality.ts';
import {
  type Counted,
  counterSamples,
  counterSeries,
  countersOf,
  gaugeSamples,
  withoutFall,
} from './memory-series.ts';

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
        {
          path: `${context.roots.proc}/self/mountinfo`,
          remedy:
            'mount -t cgroup -o memory none FOLDER, or on v2 +memory in cgroup.subtree_control',
        },
      );
    return startMemorySource(context, hierarchy);
  },
};

type Reading = Counted & {
  readonly memory: CgroupMemory;
  readonly pages: NodePages | null;
};

/** Where the series of one life begin: `since` in seconds since the epoch, `before`: what was counted until then. */
type Beginning = { readonly cgroupId: number; readonly since: number; readonly before: Counters };

function startMemorySource(context: SourceContext, hierarchy: MemoryHierarchy): Source {
  const { roots, layout, clock, config, runByCpu } = context;
  const severalNodes = listMemoryNodes(roots).length > 1;
  const series = counterSeries('container.memory.paging.faults', severalNodes);
  const beginnings = new WeakMap<LivingInstance, Beginning>();
  const readings = new WeakMap<LivingInstance, Reading>();
  // What these have counted was before this source, or is told already; a cgroup that is made later is told from its beginning.
  const old = new Set(walkCgroups(layout).paths.keys());
  const host = createHostMemory(roots, severalNodes, clock.unixSeconds());
  const locality = createLocality();
  let hugePages: readonly string[] = [];
  let nodes: readonly number[] = [];

  const begin = (living: LivingInstance, cgroupId: number, reading: Reading): Beginning =>
    old.has(cgroupId)
      ? { cgroupId, since: clock.unixSeconds(), before: countersOf(series, reading) }
      : { cgroupId, since: living.start, before: new Float64Array(series.length) };

  const take = (living: LivingInstance): void => {
    const id = cgroupIdOf(layout, living.path);
    const beginning = beginnings.get(living);
    // One that was made again under the name is another life's.
    if (id === null || (beginning && beginning.cgroupId !== id)) return;
    const reading = readInstance(hierarchy, layout, living, { hugePages, nodes });
    if (reading === null) return;
    const counts = withoutFall(reading.counts, readings.get(living)?.counts);
    readings.set(living, { ...reading, counts });
    if (!beginning) beginnings.set(living, begin(living, id, reading));
    // Told from now on: a later life of the same cgroups (a VM that ends, or turns out to be one) begins with what they have by then.
    for (const member of living.members.keys()) old.add(member);
  };
  const turns = createReadingTurns(clock, config, take);

  return {
    name: 'memory',
    read: living => {
      host.read();
      hugePages = readHugePageSizes(roots);
      nodes = listMemoryNodes(roots);
      if (severalNodes) locality.read(living, runByCpu(), readNodeOfCpu(roots));
      turns.next(living);
    },
    samples: living => {
      const reading = readings.get(living);
      const beginning = beginnings.get(living);
      if (reading === undefined || beginning === undefined) return [];
      const { before, since } = beginning;
      const local = reading.pages && locality.localShare(living, reading.pages);
      return [
        ...gaugeSamples(reading.memory, reading.pages, local, since),
        ...counterSamples(series, reading, before, since),
      ];
    },
    host: host.samples,
    lost: () => ({ unread: turns.failed() }) satisfies Record<Loss<'memory'>, number>,
    forget: gone => {
      for (const id of gone.keys()) old.delete(id);
    },
    stop: turns.stop,
  };
}

/** On v1 a cgroup's tasks and those below it are different instances, but for a VM, which is all of them. */
function readInstance(
  hierarchy: MemoryHierarchy,
  layout: CgroupLayout,
  { path, instance }: LivingInstance,
  {
    hugePages,
    nodes,
  }: Readonly<Record<'hugePages', readonly string[]> & Record<'nodes', readonly number[]>>,
): Reading | null {
  const isVm = instance.kind === 'vm';
  const memory = readCgroupMemory(hierarchy, path, isVm);
  if (memory === null) return null;
  const [node] = nodes;
  const only = node === undefined || nodes.length > 1 ? null : { node, ...memory };
  return {
    memory,
    counts: memory.counts,
    pages: readNodePages(hierarchy, path, isVm, hugePages, only),
    pressure:
      layout.version === 1
        ? new Map()
        : pressuresBy(resource => readCgroupPressure(cgroupFolder(layout.cpu, path), resource)),
  };
}
