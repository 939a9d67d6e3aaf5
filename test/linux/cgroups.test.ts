import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, renameSync, statSync } from 'node:fs';
import test from 'ava';
import {
  cgroupIdOf,
  hasCpuset,
  isWithin,
  listCgroupProcesses,
  listCgroupTasks,
  parentPath,
  readCgroupLayout,
  readCpuset,
  readIdle,
  readQuotaCores,
  readWeight,
  walkBelow,
  walkCgroups,
} from '../../src/linux/cgroups.ts';
import { makeTree, mounts } from './tree.ts';

test('v1: the cpu controller names instances, the cpuset controller is another tree', t => {
  const roots = makeTree(t, { 'proc/self/mountinfo': mounts.v1 });
  t.deepEqual(readCgroupLayout(roots), {
    version: 1,
    cpu: `${roots.cgroup}/cpu,cpuacct`,
    cpuset: `${roots.cgroup}/cpuset`,
  });
});

test('hybrid is v1: its v2 mount holds no controllers', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.hybrid,
    'cgroup/unified/cgroup.controllers': '',
  });
  t.is(readCgroupLayout(roots).version, 1);
});

test('v2: one tree is both, and none for cpusets where that controller is missing', t => {
  const with_ = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpuset cpu io memory',
  });
  t.deepEqual(readCgroupLayout(with_), { version: 2, cpu: with_.cgroup, cpuset: with_.cgroup });
  const without = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu io memory',
  });
  t.is(readCgroupLayout(without).cpuset, null);
});

test('no cgroup hierarchy at all says what was wanted, and where it looked', t => {
  const roots = makeTree(t, { 'proc/self/mountinfo': mounts.none });
  const error = t.throws(() => readCgroupLayout(roots), { code: 'KERNEL_MISSING' });
  t.regex(error?.message ?? '', /cgroup2/);
  t.throws(() => readCgroupLayout(makeTree(t, {})), { code: 'KERNEL_MISSING' });
});

test('v1: weight, idle and the tightest quota above', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v1,
    'cgroup/cpu,cpuacct/a/cpu.shares': '2048',
    'cgroup/cpu,cpuacct/a/cpu.cfs_quota_us': '150000',
    'cgroup/cpu,cpuacct/a/cpu.cfs_period_us': '100000',
    'cgroup/cpu,cpuacct/a/b/cpu.shares': '1024',
    'cgroup/cpu,cpuacct/a/b/cpu.idle': '1',
    'cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us': '-1',
    'cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us': '100000',
  });
  const layout = readCgroupLayout(roots);
  t.is(readWeight(layout, '/a'), 200);
  t.is(readIdle(layout, '/a'), null, 'a kernel before 5.15 has no cpu.idle');
  t.is(readIdle(layout, '/a/b'), true);
  t.is(readQuotaCores(layout, '/a/b'), 1.5);
  t.is(readQuotaCores(layout, '/'), null);
});

test('v2: weight and quota, and "max" is none', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    'cgroup/a/cpu.weight': '300',
    'cgroup/a/cpu.max': '50000 100000',
    'cgroup/b/cpu.max': 'max 100000',
  });
  const layout = readCgroupLayout(roots);
  t.is(readWeight(layout, '/a'), 300);
  t.is(readWeight(layout, '/'), null);
  t.is(readQuotaCores(layout, '/a'), 0.5);
  t.is(readQuotaCores(layout, '/b'), null);
});

test('v2: where the controller is not enabled, the nearest cgroup above binds', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpuset cpu',
    'cgroup/cpuset.cpus.effective': '0-7',
    'cgroup/a/cpuset.cpus': '0-3',
    'cgroup/a/cpuset.cpus.effective': '0-3',
    'cgroup/a/b/c/': '',
  });
  const layout = readCgroupLayout(roots);
  t.deepEqual(readCpuset(layout, '/a/b/c'), {
    own: [],
    effective: [0, 1, 2, 3],
    parentEffective: [0, 1, 2, 3],
  });
  t.deepEqual(readCpuset(layout, '/a').parentEffective, [0, 1, 2, 3, 4, 5, 6, 7]);
  t.false(hasCpuset(layout, '/a/b/c'));
  t.true(hasCpuset(layout, '/a'));
});

test('the id of a cgroup is the inode of its folder, and a walk finds all of them', t => {
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v1,
    'cgroup/cpu,cpuacct/a/b/tasks': '5\n7',
    'cgroup/cpu,cpuacct/a/tasks': '',
  });
  const layout = readCgroupLayout(roots);
  const id = statSync(`${layout.cpu}/a/b`).ino;
  t.is(cgroupIdOf(layout, '/a/b'), id);
  const { paths, complete } = walkCgroups(layout);
  t.is(paths.get(id), '/a/b');
  t.deepEqual([...paths.values()].sort(), ['/', '/a', '/a/b']);
  t.true(complete);
  t.false(walkCgroups(layout, 2).complete);
  t.deepEqual(listCgroupTasks(layout, '/a/b'), [5, 7]);
  t.deepEqual(listCgroupTasks(layout, '/a'), []);
});

const module = new URL('../../src/linux/cgroups.ts', import.meta.url).href;

/** As somebody who may not look into other users' folders. */
const asNobody = `const { walkCgroups } = await import('${module}');
if (process.getuid() === 0) process.seteuid(65534);
const layout = { version: 1, cpu: process.argv[1], cpuset: null };
console.log(JSON.stringify([...walkCgroups(layout).paths.values()].sort()))`;

test('who hides cgroups of his own, by a mode or by a path too long, hides nobody else’s', t => {
  const { cgroup } = makeTree(t, { 'cgroup/a/b/': '', 'cgroup/hidden/inside/': '' });
  // Two halves, each of which is short enough for a path of its own.
  const half = Array.from({ length: 10 }, () => 'n'.repeat(250)).join('/');
  for (const below of ['a', 'half']) mkdirSync(`${cgroup}/${below}/${half}`, { recursive: true });
  t.teardown(() => execFileSync('rm', ['-rf', cgroup]));
  renameSync(`${cgroup}/half`, `${cgroup}/a/${half}/half`);
  chmodSync(cgroup.replace(/cgroup$/, ''), 0o755);
  chmodSync(`${cgroup}/hidden`, 0);
  const told = execFileSync(process.execPath, ['--input-type=module', '-e', asNobody, cgroup]);
  const paths: string[] = JSON.parse(`${told}`);
  t.deepEqual(
    paths.filter(path => !path.includes('nn')),
    ['/', '/a', '/a/b', '/hidden'],
  );
  t.true(paths.length > 4 && paths.length < 4 + 20);
});

test('however many cgroups somebody makes in one of his own, they are walked through as far as the bound', t => {
  const roots = makeTree(t, { 'proc/self/mountinfo': mounts.v1, 'cgroup/cpu,cpuacct/a/': '' });
  const layout = readCgroupLayout(roots);
  // More than a call may have arguments.
  for (let i = 0; i < 130_000; i += 1) mkdirSync(`${layout.cpu}/a/${i}`);
  t.teardown(() => execFileSync('rm', ['-rf', layout.cpu]));
  const { paths, complete } = walkCgroups(layout, 10);
  t.is(paths.size, 10);
  t.false(complete);
  t.is([...walkBelow(layout, '/a', 10)].length, 10);
});

test('a cgroup that has vanished has no id, weight, quota or tasks', t => {
  const roots = makeTree(t, { 'proc/self/mountinfo': mounts.v1, 'cgroup/cpu,cpuacct/': '' });
  const layout = readCgroupLayout(roots);
  t.is(cgroupIdOf(layout, '/gone'), null);
  t.is(readWeight(layout, '/gone'), null);
  t.is(readQuotaCores(layout, '/gone'), null);
  t.deepEqual(listCgroupTasks(layout, '/gone'), []);
  t.deepEqual(listCgroupProcesses(layout, '/gone'), []);
});

test('within is by whole names', t => {
  t.true(isWithin('/a/b', '/a'));
  t.true(isWithin('/a', '/a'));
  t.true(isWithin('/a', '/'));
  t.false(isWithin('/ab', '/a'));
  t.is(parentPath('/a/b'), '/a');
  t.is(parentPath('/a'), '/');
  t.is(parentPath('/'), null);
});
