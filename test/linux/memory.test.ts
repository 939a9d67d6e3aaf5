import test from 'ava';
import {
  findMemoryHierarchy,
  listMemoryNodes,
  type MemoryHierarchy,
  readCgroupMemory,
  readHostCounts,
  readHugePageSizes,
  readNodePages,
} from '../../src/linux/memory.ts';
import { makeTree, mounts, type Tree } from './tree.ts';

const v2Stat = [
  'anon 4096000',
  'file 8192000',
  'file_dirty 4096',
  'file_writeback 8192',
  'inactive_anon 5',
  'inactive_file 1000000',
  'workingset_refault_anon 11',
  'workingset_refault_file 22',
  'pgscan 1000',
  'pgsteal 900',
  'pgscan_kswapd 700',
  'pgscan_direct 250',
  'pgscan_khugepaged 50',
  'pgsteal_kswapd 650',
  'pgsteal_direct 200',
  'pgsteal_khugepaged 50',
  'pgfault 5000',
  'pgmajfault 40',
].join('\n');

const v1Stat = [
  'cache 8192000',
  'rss 4096000',
  'dirty 4096',
  'writeback 0',
  'workingset_refault_anon 0',
  'workingset_refault_file 7',
  'pgfault 500',
  'pgmajfault 3',
  'inactive_file 2000000',
  'total_cache 16384000',
  'total_rss 8192000',
  'total_dirty 8192',
  'total_writeback 0',
  'total_workingset_refault_anon 1',
  'total_workingset_refault_file 9',
  'total_pgfault 900',
  'total_pgmajfault 5',
  'total_inactive_file 3000000',
].join('\n');

const hierarchyOf = (tree: Tree): MemoryHierarchy => {
  const hierarchy = findMemoryHierarchy(tree);
  if (hierarchy === null) throw new Error('no hierarchy');
  return hierarchy;
};

test('on v2 the memory of a cgroup is what its files say', t => {
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpuset cpu io memory pids',
    'cgroup/a/memory.stat': v2Stat,
    'cgroup/a/memory.current': '13000000',
    'cgroup/a/memory.numa_stat':
      'anon N0=4096000 N1=0\nfile N0=4096000 N1=4096000\nfile_mapped N0=1 N1=2\nunevictable N0=9 N1=9',
  });
  const hierarchy = hierarchyOf(tree);
  t.is(hierarchy.version, 2);
  t.deepEqual(readCgroupMemory(hierarchy, '/a', false), {
    usageBytes: 13000000,
    workingSetBytes: 12000000,
    dirtyBytes: 12288,
    pageBytes: new Map([
      ['anon', 4096000],
      ['file', 8192000],
    ]),
    counts: {
      minorFaults: 4960,
      majorFaults: 40,
      anonRefaults: 11,
      fileRefaults: 22,
      directScanned: 250,
      backgroundScanned: 750,
      directReclaimed: 200,
      backgroundReclaimed: 700,
      numaHintFaults: null,
      numaMigrations: null,
    },
  });
  t.deepEqual(
    readNodePages(hierarchy, '/a', false),
    new Map([
      [
        'anon',
        new Map([
          [0, 4096000],
          [1, 0],
        ]),
      ],
      [
        'file',
        new Map([
          [0, 4096000],
          [1, 4096000],
        ]),
      ],
    ]),
  );
});

test('NUMA balancing is told by cgroup where the kernel counts it so', t => {
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'memory',
    'cgroup/a/memory.stat': `${v2Stat}\nnuma_pages_migrated 12\nnuma_pte_updates 34\nnuma_hint_faults 56`,
    'cgroup/a/memory.current': '1',
  });
  const counts = readCgroupMemory(hierarchyOf(tree), '/a', false)?.counts;
  t.is(counts?.numaHintFaults, 56);
  t.is(counts?.numaMigrations, 12);
});

test('the root of v2 is the whole host and no instance; a cgroup without the controller has no memory', t => {
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'memory',
    'cgroup/memory.stat': v2Stat,
    'cgroup/a/cgroup.procs': '',
  });
  const hierarchy = hierarchyOf(tree);
  t.is(readCgroupMemory(hierarchy, '/', false), null);
  t.is(readNodePages(hierarchy, '/', false), null);
  t.is(readCgroupMemory(hierarchy, '/a', false), null);
  t.is(readNodePages(hierarchy, '/gone', false), null);
});

test('on v1 the cgroups below count where they are asked for, and pages are of 4 KB', t => {
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v1,
    'cgroup/memory/a/memory.stat': v1Stat,
    'cgroup/memory/a/memory.numa_stat': [
      'total=6 N0=2 N1=4',
      'file=1 N0=1 N1=0',
      'anon=4 N0=0 N1=4',
      'unevictable=1 N0=1 N1=0',
      'hierarchical_total=60 N0=20 N1=40',
      'hierarchical_file=10 N0=10 N1=0',
      'hierarchical_anon=40 N0=0 N1=40',
      'hierarchical_unevictable=10 N0=10 N1=0',
    ].join('\n'),
  });
  const hierarchy = hierarchyOf(tree);
  t.is(hierarchy.version, 1);
  const own = readCgroupMemory(hierarchy, '/a', false);
  t.is(own?.usageBytes, 12288000);
  t.is(own?.workingSetBytes, 10288000);
  t.is(own?.counts.minorFaults, 497);
  t.is(own?.counts.directScanned, null);
  const all = readCgroupMemory(hierarchy, '/a', true);
  t.is(all?.usageBytes, 24576000);
  t.is(all?.counts.majorFaults, 5);
  t.is(all?.counts.fileRefaults, 9);
  t.deepEqual(
    readNodePages(hierarchy, '/a', false)?.get('anon'),
    new Map([
      [0, 0],
      [1, 16384],
    ]),
  );
  t.deepEqual(
    readNodePages(hierarchy, '/a', true)?.get('unevictable'),
    new Map([
      [0, 40960],
      [1, 0],
    ]),
  );
});

test('where there is one memory node all pages are there, and another file need not be read for it', t => {
  const pagesOf = (tree: Tree, withBelow: boolean) => {
    const hierarchy = hierarchyOf(tree);
    const [node = -1, ...others] = listMemoryNodes(tree);
    t.is(others.length, 0);
    const { pageBytes = new Map() } = readCgroupMemory(hierarchy, '/a', withBelow) ?? {};
    const sizes = readHugePageSizes(tree);
    const only = { node, pageBytes };
    const pages = readNodePages(hierarchy, '/a', withBelow, sizes, only) ?? new Map();
    return Object.fromEntries([...pages].map(([kind, nodes]) => [kind, [...nodes]]));
  };
  const one = { 'sys/devices/system/node/node1/': '', 'sys/devices/system/node/possible': '0-1' };
  const v2 = makeTree(t, {
    ...one,
    'proc/self/mountinfo': mounts.v2,
    'sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages': '64',
    'cgroup/cgroup.controllers': 'memory hugetlb',
    'cgroup/a/memory.stat': v2Stat,
    'cgroup/a/memory.current': '13000000',
    'cgroup/a/hugetlb.2MB.numa_stat': 'total=2097152 N1=2097152',
  });
  t.deepEqual(pagesOf(v2, false), {
    anon: [[1, 4096000]],
    file: [[1, 8192000]],
    hugetlb: [[1, 2097152]],
  });
  const lists = 'inactive_anon 1\nactive_anon 2\ninactive_file 4\nactive_file 8\nunevictable 16';
  const v1 = makeTree(t, {
    ...one,
    'proc/self/mountinfo': mounts.v1,
    'cgroup/memory/a/memory.stat': `${lists}\n${lists.replaceAll(/^(\w+) (\d+)$/gm, 'total_$1 1$2')}`,
  });
  t.deepEqual(pagesOf(v1, false), { anon: [[1, 3]], file: [[1, 12]], unevictable: [[1, 16]] });
  t.deepEqual(pagesOf(v1, true), { anon: [[1, 23]], file: [[1, 32]], unevictable: [[1, 116]] });
});

test('pages of hugetlbfs are counted by another controller, and of sizes that the host has', t => {
  const files = {
    'sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages': '64',
    'sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages': '1',
    'sys/kernel/mm/hugepages/hugepages-64kB/nr_hugepages': '0',
  };
  const v2 = makeTree(t, {
    ...files,
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'memory hugetlb',
    'cgroup/a/memory.numa_stat': 'anon N0=4096 N1=0',
    'cgroup/a/hugetlb.2MB.numa_stat': 'total=6291456 N0=2097152 N1=4194304',
    'cgroup/a/hugetlb.1GB.numa_stat': 'total=1073741824 N0=0 N1=1073741824',
  });
  const sizes = readHugePageSizes(v2);
  t.deepEqual([...sizes].sort(), ['1GB', '2MB']);
  const huge = new Map([
    [0, 2097152],
    [1, 4194304 + 1073741824],
  ]);
  t.deepEqual(readNodePages(hierarchyOf(v2), '/a', true, sizes)?.get('hugetlb'), huge);
  t.false(readNodePages(hierarchyOf(v2), '/a', true)?.has('hugetlb'));
  const v1 = makeTree(t, {
    'proc/self/mountinfo': `${mounts.v1}\n30 23 0:26 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb`,
    'cgroup/memory/a/memory.numa_stat': 'anon=1 N0=1',
    'cgroup/hugetlb/a/hugetlb.2MB.numa_stat':
      'total=2097152 N0=2097152\nhierarchical_total=4194304 N0=4194304',
  });
  const pages = (withBelow: boolean) =>
    readNodePages(hierarchyOf(v1), '/a', withBelow, ['2MB'])?.get('hugetlb')?.get(0);
  t.deepEqual([pages(false), pages(true)], [2097152, 4194304]);
});

test('without the memory controller there is no hierarchy', t => {
  for (const [mountinfo, controllers] of [
    [mounts.none, ''],
    [mounts.v1WithoutCpuset, ''],
    [mounts.v2, 'cpu io'],
  ] as const) {
    const tree = makeTree(t, {
      'proc/self/mountinfo': mountinfo,
      'cgroup/cgroup.controllers': controllers,
    });
    t.is(findMemoryHierarchy(tree), null);
  }
});

test('of the host vmstat tells, without those of its counters that this kernel lacks', t => {
  const tree = makeTree(t, {
    'proc/vmstat': [
      'pgfault 1000',
      'pgmajfault 10',
      'workingset_refault_anon 1',
      'workingset_refault_file 2',
      'pgscan_kswapd 30',
      'pgscan_direct 4',
      'pgscan_khugepaged 5',
      'pgsteal_kswapd 20',
      'pgsteal_direct 3',
      'pgsteal_khugepaged 0',
    ].join('\n'),
  });
  t.deepEqual(readHostCounts(tree), {
    minorFaults: 990,
    majorFaults: 10,
    anonRefaults: 1,
    fileRefaults: 2,
    directScanned: 4,
    backgroundScanned: 35,
    directReclaimed: 3,
    backgroundReclaimed: 20,
    numaHintFaults: null,
    numaMigrations: null,
  });
});
