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

function start(t: ExecutionContext, tree: Tree) {
  const clock = steppedClock(1000);
  const source = memorySource.start({
    config: { detailIntervalSeconds: 10 },
    roots: tree,
    layout: readCgroupLayout(tree),
    runByCpu: () => new Map(),
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

test('without the memory controller the source says so and is not started', t => {
  const tree = makeTree(t, { 'proc/self/mountinfo': mounts.v1WithoutCpuset });
  t.throws(() => start(t, tree), { code: 'KERNEL_MISSING', message: /memory controller/ });
});
