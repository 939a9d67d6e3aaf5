import { mkdirSync, renameSync, statSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { memorySource } from '../../../src/agent/memory/memory-source.ts';
import type { Source, SourceContext } from '../../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import type { Sample } from '../../../src/otlp/sample.ts';
import { makeTree, mounts, type Tree } from '../../linux/tree.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const stat = (pgfault: number, more = '') =>
  `file_dirty 0\nfile_writeback 0\ninactive_file 1000\nworkingset_refault_file 0\npgfault ${pgfault}\npgmajfault 2\n${more}`;

const nodes = { 'sys/devices/system/node/node0/': '', 'sys/devices/system/node/node1/': '' };

function host(t: ExecutionContext, files: Record<string, string>): Tree {
  return makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'proc/vmstat': 'pgfault 700\npgmajfault 100\nnuma_hint_faults 5\nnuma_pages_migrated 1',
    'proc/pressure/memory': 'some total=1000000\nfull total=0',
    'cgroup/cgroup.controllers': 'memory',
    ...nodes,
    ...files,
  });
}

function life(tree: Tree, path: string, start: number): LivingInstance {
  const id = statSync(`${tree.cgroup}${path}`).ino;
  return {
    instance: { id: path, kind: 'cgroup', name: path },
    path,
    start,
    members: new Map([[id, path]]),
    totals: { runNs: 0 },
  } as unknown as LivingInstance;
}

function start(
  t: ExecutionContext,
  tree: Tree,
  run: ReadonlyMap<number, Float64Array> = new Map(),
) {
  const clock = steppedClock(1000);
  const source = memorySource.start({
    config: { detailIntervalSeconds: 10 },
    roots: tree,
    layout: readCgroupLayout(tree),
    runByCpu: () => run,
    clock,
  } as unknown as SourceContext);
  t.teardown(source.stop);
  return { clock, source };
}

/** Values by metric and attributes. */
const told = (samples: readonly Omit<Sample, 'start'>[]): Record<string, unknown> =>
  Object.fromEntries(
    samples.map(({ metric, attributes, value }) => [
      [metric, ...Object.values(attributes ?? {})].join(' '),
      value,
    ]),
  );

const faults = 'container.memory.paging.faults minor';
const valuesOf = (source: Source, living: LivingInstance) => told(source.samples(living));

test('what a cgroup had counted before the agent is not told, and its series begin with the first reading', t => {
  const tree = host(t, { 'cgroup/a/memory.stat': stat(500), 'cgroup/a/memory.current': '9000' });
  const { clock, source } = start(t, tree);
  const living = life(tree, '/a', 990);
  clock.step(4);
  source.read([living]);
  const [first] = source.samples(living);
  t.is(first?.start, 1004);
  t.is(valuesOf(source, living)[faults], 0);
  t.is(valuesOf(source, living)['container.memory.usage'], 9000);
  t.is(valuesOf(source, living)['container.memory.working_set'], 8000);
  tree.write({ 'cgroup/a/memory.stat': stat(620) });
  (living.totals as { runNs: number }).runNs = 1;
  source.read([living]);
  clock.step(10);
  t.is(valuesOf(source, living)[faults], 120);
});

test('what a cgroup that was made later has counted is told from its beginning', t => {
  const tree = host(t, {});
  const { source } = start(t, tree);
  mkdirSync(`${tree.cgroup}/b`);
  tree.write({ 'cgroup/b/memory.stat': stat(502), 'cgroup/b/memory.current': '1' });
  const living = life(tree, '/b', 1003);
  source.read([living]);
  t.is(valuesOf(source, living)[faults], 500);
  t.is(valuesOf(source, living)['container.memory.paging.faults major'], 2);
  t.is(source.samples(living)[0]?.start, 1003);
});

test('each series has the count of its own', t => {
  const tree = host(t, {});
  const { source } = start(t, tree);
  tree.write({
    'cgroup/b/memory.stat': [
      ...[
        'file_dirty 4096',
        'file_writeback 8192',
        'inactive_file 0',
        'pgfault 500',
        'pgmajfault 2',
      ],
      ...['workingset_refault_anon 3', 'workingset_refault_file 5'],
      ...['pgscan 107', 'pgscan_direct 7', 'pgsteal 61', 'pgsteal_direct 6'],
      ...['numa_hint_faults 11', 'numa_pages_migrated 13'],
    ].join('\n'),
    'cgroup/b/memory.current': '9000',
    'cgroup/b/cpu.pressure': 'some total=500000\nfull total=250000',
    'cgroup/b/memory.pressure': 'some total=7000000\nfull total=6000000',
    'cgroup/b/io.pressure': 'some total=9000000\nfull total=8000000',
  });
  const living = life(tree, '/b', 1003);
  source.read([living]);
  t.deepEqual(valuesOf(source, living), {
    'container.memory.usage': 9000,
    'container.memory.working_set': 9000,
    'sculptor.memory.dirty': 12_288,
    'container.memory.paging.faults minor': 498,
    'container.memory.paging.faults major': 2,
    'sculptor.memory.refaults anon': 3,
    'sculptor.memory.refaults file': 5,
    'sculptor.memory.reclaim.scanned direct': 7,
    'sculptor.memory.reclaim.scanned background': 100,
    'sculptor.memory.reclaim.reclaimed direct': 6,
    'sculptor.memory.reclaim.reclaimed background': 55,
    'sculptor.memory.numa.hint_faults': 11,
    'sculptor.memory.numa.migrations': 13,
    'sculptor.pressure.time cpu some': 0.5,
    'sculptor.pressure.time cpu full': 0.25,
    'sculptor.pressure.time memory some': 7,
    'sculptor.pressure.time memory full': 6,
    'sculptor.pressure.time io some': 9,
    'sculptor.pressure.time io full': 8,
  });
});

test('the share of pages that are local is by where it runs, and told once it ran', t => {
  const tree = host(t, {
    'sys/devices/system/node/node0/cpulist': '0',
    'sys/devices/system/node/node1/cpulist': '1',
    ...Object.fromEntries(
      ['a', 'b'].flatMap(name => [
        [`cgroup/${name}/memory.stat`, stat(1)],
        [`cgroup/${name}/memory.current`, '1'],
        [`cgroup/${name}/memory.numa_stat`, 'anon N0=4096 N1=12288'],
      ]),
    ),
  });
  const [a, b] = [life(tree, '/a', 990), life(tree, '/b', 990)];
  const run = new Map([...a.members.keys()].map(id => [id, Float64Array.of(0, 5)]));
  const { source } = start(t, tree, run);
  source.read([a, b]);
  t.is(valuesOf(source, a)['sculptor.memory.local'], 0.75);
  t.false('sculptor.memory.local' in valuesOf(source, b));
});

test('on a host of one memory node all pages are there, those of hugetlbfs among them', t => {
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'memory hugetlb',
    'sys/devices/system/node/node0/': '',
    'sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages': '4',
    'cgroup/a/memory.stat': `anon 4096\nfile 8192\n${stat(1, 'numa_hint_faults 3\n')}`,
    'cgroup/a/memory.current': '1',
    'cgroup/a/hugetlb.2MB.numa_stat': 'total=2097152 N0=2097152',
  });
  const { source } = start(t, tree);
  const living = life(tree, '/a', 990);
  source.read([living]);
  const pages = Object.entries(valuesOf(source, living)).filter(([name]) =>
    /pages|numa/.test(name),
  );
  t.deepEqual(Object.fromEntries(pages), {
    'sculptor.memory.pages 0 anon': 4096,
    'sculptor.memory.pages 0 file': 8192,
    'sculptor.memory.pages 0 hugetlb': 2_097_152,
  });
});

test('v1: a cgroup is told without those below it, a VM with them', t => {
  const below = 'total_cache 300\ntotal_rss 40\ntotal_pgfault 9\ntotal_pgmajfault 0';
  const tree = makeTree(t, { 'proc/self/mountinfo': mounts.v1, 'cgroup/cpu,cpuacct/': '' });
  const { source } = start(t, tree);
  const lives = ['cgroup', 'vm'].map(kind => {
    mkdirSync(`${tree.cgroup}/cpu,cpuacct/${kind}`);
    tree.write({
      [`cgroup/memory/${kind}/memory.stat`]: `cache 100\nrss 20\npgfault 5\npgmajfault 0\n${below}`,
      [`cgroup/cpu,cpuacct/${kind}/cpu.pressure`]: 'some total=500000\nfull total=250000',
    });
    const id = statSync(`${tree.cgroup}/cpu,cpuacct/${kind}`).ino;
    const instance = { id: kind, kind, name: kind };
    return {
      ...{ instance, path: `/${kind}`, start: 1003, members: new Map([[id, `/${kind}`]]) },
      totals: { runNs: 0 },
    } as unknown as LivingInstance;
  });
  source.read(lives);
  t.deepEqual(
    lives.map(one => {
      const all = valuesOf(source, one);
      return [all['container.memory.usage'], all[faults]];
    }),
    [
      [120, 5],
      [340, 9],
    ],
  );
});

test('an instance that cannot be read is counted, and nothing is read once the source is stopped', t => {
  const tree = host(t, {
    'cgroup/a/memory.stat': stat(500),
    'cgroup/a/memory.current': '9000',
    'cgroup/bad/memory.stat/': '',
  });
  const { clock, source } = start(t, tree);
  const [living, bad] = [life(tree, '/a', 990), life(tree, '/bad', 990)];
  t.throws(() => source.read([bad, living]), { message: /EISDIR/ });
  t.is(source.lost()['unread'], 1);
  t.is(valuesOf(source, living)['container.memory.usage'], 9000);
  (living.totals as { runNs: number }).runNs = 1;
  source.read([living]);
  source.stop();
  tree.write({ 'cgroup/a/memory.current': '9999' });
  clock.step(10);
  t.is(valuesOf(source, living)['container.memory.usage'], 9000);
});

test('a cgroup that has the id of one that is gone is told from its beginning', t => {
  const tree = host(t, { 'cgroup/a/memory.stat': stat(502), 'cgroup/a/memory.current': '1' });
  const { source } = start(t, tree);
  const first = life(tree, '/a', 990);
  source.read([first]);
  t.is(valuesOf(source, first)[faults], 0);
  source.forget(new Map([...first.members.keys()].map(id => [id, first])));
  const second = life(tree, '/a', 1003);
  source.read([second]);
  t.is(valuesOf(source, second)[faults], 500);
});

test('the lives that follow a VM begin with what their cgroups have counted by then', t => {
  const tree = host(t, {});
  const { clock, source } = start(t, tree);
  for (const path of ['/ci', '/ci/sub']) {
    mkdirSync(`${tree.cgroup}${path}`);
    tree.write({
      [`cgroup${path}/memory.stat`]: stat(502),
      [`cgroup${path}/memory.current`]: '1',
    });
  }
  const lives = ['/ci', '/ci/sub'].map(path => life(tree, path, 1050));
  const members = new Map(lives.flatMap(one => [...one.members]));
  const vm = { ...life(tree, '/ci', 1003), members } as LivingInstance;
  source.read([vm]);
  t.is(valuesOf(source, vm)[faults], 500);
  clock.step(50);
  source.read(lives);
  clock.step(10);
  t.deepEqual(
    lives.map(one => valuesOf(source, one)[faults]),
    [0, 0],
  );
  t.true(lives.every(one => Number(source.samples(one)[0]?.start) >= 1050));
});

test('pages, pressure and NUMA balancing are told where the kernel tells them, and not as zeros where it does not', t => {
  const tree = host(t, {
    'cgroup/a/memory.stat': stat(1, 'numa_hint_faults 3\nnuma_pages_migrated 0\n'),
    'cgroup/a/memory.current': '1',
    'cgroup/a/memory.numa_stat': 'anon N0=4096 N1=8192\nfile N0=0 N1=0',
    'cgroup/a/cpu.pressure': 'some total=500000\nfull total=250000',
    'cgroup/b/memory.stat': stat(1),
    'cgroup/b/memory.current': '1',
  });
  const { source } = start(t, tree);
  const [a, b] = [life(tree, '/a', 990), life(tree, '/b', 990)];
  source.read([a, b]);
  const ofA = valuesOf(source, a);
  t.is(ofA['sculptor.memory.pages 1 anon'], 8192);
  t.is(ofA['sculptor.memory.pages 0 file'], 0);
  t.is(ofA['sculptor.pressure.time cpu full'], 0, 'since the first reading');
  t.is(ofA['sculptor.memory.numa.hint_faults'], 0);
  const ofB = Object.keys(valuesOf(source, b)).sort();
  t.deepEqual(ofB, [
    'container.memory.paging.faults major',
    'container.memory.paging.faults minor',
    'container.memory.usage',
    'container.memory.working_set',
    'sculptor.memory.dirty',
    'sculptor.memory.refaults file',
  ]);
});

test('a cgroup without the controller has no series, and one that is gone keeps what it had', t => {
  const tree = host(t, {
    'cgroup/a/memory.stat': stat(5),
    'cgroup/a/memory.current': '1',
    'cgroup/c/': '',
  });
  const { clock, source } = start(t, tree);
  const [a, c] = [life(tree, '/a', 990), life(tree, '/c', 990)];
  source.read([a, c]);
  t.deepEqual(source.samples(c), []);
  tree.remove('cgroup/a');
  (a.totals as { runNs: number }).runNs = 1;
  source.read([a, c]);
  clock.step(10);
  source.forget(new Map([[statSync(`${tree.cgroup}/c`).ino, c]]));
  t.is(valuesOf(source, a)[faults], 0);
});

test('a cgroup that was made again under its name is another life', t => {
  const tree = host(t, {});
  const { clock, source } = start(t, tree);
  tree.write({ 'cgroup/b/memory.stat': stat(502), 'cgroup/b/memory.current': '1' });
  const first = life(tree, '/b', 1003);
  source.read([first]);
  // Its inode stays taken: a file system might give it to the next one.
  renameSync(`${tree.cgroup}/b`, `${tree.cgroup}/gone`);
  tree.write({ 'cgroup/b/memory.stat': stat(12), 'cgroup/b/memory.current': '1' });
  const second = life(tree, '/b', 1013);
  (first.totals as { runNs: number }).runNs = 1;
  source.read([first, second]);
  clock.step(10);
  t.is(valuesOf(source, first)[faults], 500);
  t.is(valuesOf(source, second)[faults], 10);
});

test('the host is told since the source was started', t => {
  const tree = host(t, {});
  const { source } = start(t, tree);
  tree.write({
    'proc/vmstat': 'pgfault 720\npgmajfault 101\nnuma_hint_faults 9\nnuma_pages_migrated 4',
    'proc/pressure/memory': 'some total=1500000\nfull total=0',
  });
  source.read([]);
  const of = told(source.host());
  t.is(of['system.paging.faults minor'], 19);
  t.is(of['system.paging.faults major'], 1);
  t.is(of['sculptor.memory.numa.hint_faults'], 4);
  t.is(of['sculptor.memory.numa.migrations'], 3);
  t.is(of['sculptor.pressure.time memory some'], 0.5);
  t.false('sculptor.pressure.time io some' in of);
});

test('minor faults do not fall while more major ones are under way, which are no faults yet', t => {
  const tree = host(t, {});
  const { clock, source } = start(t, tree);
  mkdirSync(`${tree.cgroup}/b`);
  const living = life(tree, '/b', 1003);
  const minor: unknown[] = [];
  for (const [all, major] of [
    [500, 2],
    [501, 8],
    [520, 9],
  ] as const) {
    const counted = `pgfault ${all}\npgmajfault ${major}\n`;
    tree.write({
      ...{ 'cgroup/b/memory.stat': counted, 'cgroup/b/memory.current': '1' },
      'proc/vmstat': `pgfault ${all + 700}\npgmajfault ${major + 100}`,
    });
    (living.totals as { runNs: number }).runNs += 1;
    source.read([living]);
    clock.step(10);
    minor.push(valuesOf(source, living)[faults], told(source.host())['system.paging.faults minor']);
  }
  t.deepEqual(minor, [498, 498, 498, 498, 511, 511]);
});

test('without the memory controller the source says so and is not started', t => {
  const tree = makeTree(t, { 'proc/self/mountinfo': mounts.v1WithoutCpuset });
  t.throws(() => start(t, tree), { code: 'KERNEL_MISSING', message: /memory controller/ });
});
