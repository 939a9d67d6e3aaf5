import { cgroupFolder, findHierarchies } from './cgroups.ts';
import { listFolder, readNumber, readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** The hierarchy that has the memory controller: a tree of its own on v1, whatever the cpu controller is on. */
export type MemoryHierarchy = {
  readonly version: 1 | 2;
  readonly root: string;
  /** Folder of the hierarchy that counts pages of hugetlbfs, which the memory controller does not; null: none does. */
  readonly hugetlb: string | null;
};

/**
 * Kinds of pages. On v1 `unevictable` (mlocked) ones are none of the first two, on v2 they are among them. `hugetlb`: of
 * hugetlbfs, as many VMs have their memory.
 */
export type PageKind = 'anon' | 'file' | 'unevictable' | 'hugetlb';

/** What the kernel has counted since the cgroup was made; null where this kernel, or cgroup v1, does not count it. */
export type MemoryCounts = {
  readonly minorFaults: number;
  readonly majorFaults: number;
  readonly anonRefaults: number | null;
  readonly fileRefaults: number | null;
  readonly directScanned: number | null;
  readonly backgroundScanned: number | null;
  readonly directReclaimed: number | null;
  readonly backgroundReclaimed: number | null;
  readonly numaHintFaults: number | null;
  readonly numaMigrations: number | null;
};

/** Memory of one cgroup. Null where it is not told. */
export type CgroupMemory = {
  readonly usageBytes: number;
  readonly workingSetBytes: number;
  /** Waiting to be written, or being written. */
  readonly dirtyBytes: number;
  /** Its pages, but for those of hugetlbfs. */
  readonly pageBytes: ReadonlyMap<PageKind, number>;
  readonly counts: MemoryCounts;
};

/** `[node]` bytes by kind. */
export type NodePages = ReadonlyMap<PageKind, ReadonlyMap<number, number>>;

/** The memory controller's hierarchy; null where it is not mounted, or not enabled. */
export function findMemoryHierarchy(roots: Roots): MemoryHierarchy | null {
  const { v1, v2 } = findHierarchies(roots);
  const own = v1('memory');
  if (own !== null) return { version: 1, root: own, hugetlb: v1('hugetlb') };
  if (v2 === null) return null;
  const controllers = readText(`${v2}/cgroup.controllers`)?.split(' ') ?? [];
  if (!controllers.includes('memory')) return null;
  return { version: 2, root: v2, hugetlb: controllers.includes('hugetlb') ? v2 : null };
}

/** Numbers of the host's memory nodes; none where the kernel knows no NUMA. */
export function listMemoryNodes(roots: Roots): number[] {
  return listFolder(`${roots.sys}/devices/system/node`).flatMap(name => {
    const node = /^node(\d+)$/.exec(name)?.[1];
    return node === undefined ? [] : [Number(node)];
  });
}

/** Sizes of huge pages of which this host has some, as the hugetlb controller names them: `2MB`, `1GB`. */
export function readHugePageSizes(roots: Roots): string[] {
  const base = `${roots.sys}/kernel/mm/hugepages`;
  return listFolder(base).flatMap(name => {
    const kilobytes = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
    const some = readNumber(`${base}/${name}/nr_hugepages`) ?? 0;
    if (!Number.isInteger(kilobytes) || some === 0) return [];
    const [gigabytes, megabytes] = [kilobytes / 2 ** 20, kilobytes / 2 ** 10];
    if (gigabytes >= 1) return [`${gigabytes}GB`];
    return megabytes >= 1 ? [`${megabytes}MB`] : [`${kilobytes}KB`];
  });
}

/**
 * Memory of a cgroup; null when it is gone, has no memory controller, or is the root of v2, which stands for the whole
 * host. v2 counts the cgroups below with it; v1 does so where `withBelow` is asked for.
 * @see Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst
 */
export function readCgroupMemory(
  { version, root }: MemoryHierarchy,
  path: string,
  withBelow: boolean,
): CgroupMemory | null {
  if (version === 2 && path === '/') return null;
  const folder = cgroupFolder(root, path);
  const text = readText(`${folder}/memory.stat`);
  if (text === null) return null;
  return version === 2 ? memoryOfV2(text, folder) : memoryOfV1(text, withBelow);
}

function memoryOfV2(text: string, folder: string): CgroupMemory | null {
  const usageBytes = readNumber(`${folder}/memory.current`);
  if (usageBytes === null) return null;
  const field = fieldsOf(text);
  const [directScanned, directReclaimed] = [field('pgscan_direct'), field('pgsteal_direct')];
  // What is neither is the kernel's own doing: kswapd, khugepaged, and asked for through memory.reclaim.
  const background = (all: number | null, direct: number | null) =>
    all === null || direct === null ? null : Math.max(0, all - direct);
  return {
    usageBytes,
    workingSetBytes: Math.max(0, usageBytes - (field('inactive_file') ?? 0)),
    dirtyBytes: (field('file_dirty') ?? 0) + (field('file_writeback') ?? 0),
    pageBytes: pageBytes(
      [
        ['anon', ['anon']],
        ['file', ['file']],
      ],
      field,
    ),
    counts: {
      ...faultsAndRefaults(field),
      directScanned,
      backgroundScanned: background(field('pgscan'), directScanned),
      directReclaimed,
      backgroundReclaimed: background(field('pgsteal'), directReclaimed),
      numaHintFaults: field('numa_hint_faults'),
      numaMigrations: field('numa_pages_migrated'),
    },
  };
}

function memoryOfV1(text: string, withBelow: boolean): CgroupMemory {
  const own = fieldsOf(text);
  const field: Field = withBelow ? name => own(`total_${name}`) : own;
  const usageBytes = (field('cache') ?? 0) + (field('rss') ?? 0);
  return {
    usageBytes,
    workingSetBytes: Math.max(0, usageBytes - (field('inactive_file') ?? 0)),
    dirtyBytes: (field('dirty') ?? 0) + (field('writeback') ?? 0),
    pageBytes: pageBytes(
      [
        ['anon', ['inactive_anon', 'active_anon']],
        ['file', ['inactive_file', 'active_file']],
        ['unevictable', ['unevictable']],
      ],
      field,
    ),
    counts: {
      ...faultsAndRefaults(field),
      directScanned: null,
      backgroundScanned: null,
      directReclaimed: null,
      backgroundReclaimed: null,
      numaHintFaults: null,
      numaMigrations: null,
    },
  };
}

/** The kinds of which the kernel tells all fields. */
function pageBytes(
  kinds: readonly (readonly [PageKind, readonly string[]])[],
  field: Field,
): ReadonlyMap<PageKind, number> {
  const bytes = new Map<PageKind, number>();
  for (const [kind, names] of kinds) {
    let sum: number | null = 0;
    for (const name of names) {
      const part = field(name);
      sum = sum === null || part === null ? null : sum + part;
    }
    if (sum !== null) bytes.set(kind, sum);
  }
  return bytes;
}

/** `pgfault` counts all faults, also the major ones. */
function faultsAndRefaults(field: Field) {
  const majorFaults = field('pgmajfault') ?? 0;
  return {
    minorFaults: Math.max(0, (field('pgfault') ?? 0) - majorFaults),
    majorFaults,
    anonRefaults: field('workingset_refault_anon'),
    fileRefaults: field('workingset_refault_file'),
  };
}

type Field = (name: string) => number | null;

/** Numbers of a file of `name value` lines. A search per name: of some sixty lines a dozen are wanted. */
function fieldsOf(text: string): Field {
  const lines = `\n${text}\n`;
  return name => {
    const at = lines.indexOf(`\n${name} `);
    if (at < 0) return null;
    const from = at + name.length + 2;
    return Number(lines.slice(from, lines.indexOf('\n', from)));
  };
}

/**
 * Where a cgroup's pages are, in bytes; null as `readCgroupMemory`. Read from counters: nobody's mmap lock is taken.
 * `hugePages`: sizes as `readHugePageSizes`. `only`: of a host with one memory node, which that is, and the pages as they were
 * read just now: all of them are there, and only those of hugetlbfs are read.
 */
export function readNodePages(
  hierarchy: MemoryHierarchy,
  path: string,
  withBelow: boolean,
  hugePages: readonly string[] = [],
  only: ({ readonly node: number } & Pick<CgroupMemory, 'pageBytes'>) | null = null,
): NodePages | null {
  const pages =
    only === null
      ? readPagesByNode(hierarchy, path, withBelow)
      : new Map([...only.pageBytes].map(([kind, bytes]) => [kind, new Map([[only.node, bytes]])]));
  if (pages !== null) addHugePages(pages, hierarchy, path, withBelow, hugePages);
  return pages;
}

type PagesByNode = Map<PageKind, Map<number, number>>;

function readPagesByNode(
  { version, root }: MemoryHierarchy,
  path: string,
  withBelow: boolean,
): PagesByNode | null {
  if (version === 2 && path === '/') return null;
  const text = readText(`${cgroupFolder(root, path)}/memory.numa_stat`);
  if (text === null) return null;
  // v1 counts pages of 4 KB, under names that begin its lines; v2 bytes.
  const kinds: readonly PageKind[] =
    version === 2 ? ['anon', 'file'] : ['anon', 'file', 'unevictable'];
  const prefix = version === 1 && withBelow ? 'hierarchical_' : '';
  const unitBytes = version === 2 ? 1 : 4096;
  const pages: PagesByNode = new Map();
  for (const line of text.split('\n')) {
    const kind = kinds.find(one => line.startsWith(`${prefix}${one}${version === 2 ? ' ' : '='}`));
    if (!kind) continue;
    addNodes(pages, kind, line, unitBytes);
  }
  return pages;
}

function addHugePages(
  pages: PagesByNode,
  { version, hugetlb }: MemoryHierarchy,
  path: string,
  withBelow: boolean,
  sizes: readonly string[],
): void {
  if (hugetlb === null) return;
  const total = version === 1 && withBelow ? 'hierarchical_total=' : 'total=';
  for (const size of sizes) {
    const text = readText(`${cgroupFolder(hugetlb, path)}/hugetlb.${size}.numa_stat`);
    const line = text?.split('\n').find(one => one.startsWith(total));
    if (line !== undefined) addNodes(pages, 'hugetlb', line, 1);
  }
}

/** Adds what a line of a `numa_stat` says of each node (`total=5 N0=2 N1=3`). */
function addNodes(pages: PagesByNode, kind: PageKind, line: string, unitBytes: number): void {
  const nodes = pages.get(kind) ?? new Map<number, number>();
  for (const [, node, count] of line.matchAll(/ N(\d+)=(\d+)/g))
    nodes.set(Number(node), (nodes.get(Number(node)) ?? 0) + Number(count) * unitBytes);
  pages.set(kind, nodes);
}

/** The same counts of the host as a whole, since boot. */
export function readHostCounts(roots: Roots): MemoryCounts {
  const field = fieldsOf(readText(`${roots.proc}/vmstat`) ?? '');
  const background = (what: 'pgscan' | 'pgsteal') =>
    ['kswapd', 'khugepaged', 'proactive'].reduce(
      (sum, who) => sum + (field(`${what}_${who}`) ?? 0),
      0,
    );
  return {
    ...faultsAndRefaults(field),
    directScanned: field('pgscan_direct'),
    backgroundScanned: background('pgscan'),
    directReclaimed: field('pgsteal_direct'),
    backgroundReclaimed: background('pgsteal'),
    numaHintFaults: field('numa_hint_faults'),
    numaMigrations: field('numa_pages_migrated'),
  };
}
