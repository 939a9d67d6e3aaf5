import test, { type ExecutionContext } from 'ava';
import { readCgroupLayout } from '../../src/linux/cgroups.ts';
import { findHolder } from '../../src/linux/holder.ts';
import { makeTree, mounts, residentFiles, taskFiles } from './tree.ts';

const files = { 'proc/self/mountinfo': mounts.v2, 'cgroup/cgroup.controllers': 'cpu' };

/** Processes 50, 51, … in the cgroup `/a`, with so many MiB in memory each. */
function find(t: ExecutionContext, residentMib: readonly number[], more = {}) {
  const ids = residentMib.map((_, i) => 50 + i);
  const tree = makeTree(t, {
    ...files,
    'cgroup/a/cgroup.procs': ids.join('\n'),
    ...Object.assign({}, ...residentMib.map((mib, i) => residentFiles(50 + i, mib))),
    ...more,
  });
  return findHolder(tree, readCgroupLayout(tree), ['/a', '/gone']);
}

test('a process holds the memory of its cgroup if it has nine tenths of it', t => {
  t.is(find(t, [256]), 50);
  t.is(find(t, [10, 90]), 51);
  t.is(find(t, [11, 90]), 'spread');
  t.is(find(t, [40, 40, 40]), 'spread');
});

test('where there is hardly any memory nobody holds it', t => {
  t.is(find(t, [16]), 50);
  t.is(find(t, [15]), 'too_small');
  t.is(find(t, []), 'too_small');
});

test('where /proc shows no process it is not told that there is no memory', t => {
  t.is(find(t, [], { 'cgroup/a/cgroup.procs': '50\n51' }), 'hidden');
});

test('a thread of the kernel has no memory, and one that has ended neither', t => {
  t.is(find(t, [64], { 'cgroup/a/cgroup.procs': '2\n50\n51', ...taskFiles(2) }), 50);
});

test('threads of one process hold it together', t => {
  const status = (tid: number) => ({
    ...taskFiles(tid, { tgid: 50 }),
    [`proc/${tid}/status`]: `Tgid:\t50\nCpus_allowed_list:\t0\nVmRSS:\t65536 kB`,
  });
  const threads = { 'cgroup/a/cgroup.procs': '51\n52', ...status(51), ...status(52) };
  t.is(find(t, [64], threads), 50);
});

test('no more processes are looked at than can be in a moment', t => {
  const of = (count: number) => [64, ...Array.from({ length: count - 1 }, () => 0)];
  t.is(find(t, of(128)), 50);
  t.is(find(t, of(129)), 'spread');
});
