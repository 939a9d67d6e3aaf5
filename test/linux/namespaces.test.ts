import test from 'ava';
import { readCgroupLayout } from '../../src/linux/cgroups.ts';
import { findNarrowing } from '../../src/linux/namespaces.ts';
import { makeTree, mounts } from './tree.ts';

test('what is not the first of its kind is told, and what the kernel does not tell is not', t => {
  // Files of a tree have other inodes than the kernel's first namespaces.
  const own = { 'proc/self/ns/cgroup': '', 'proc/self/ns/pid': '' };
  const found = (files: Record<string, string>) => {
    const roots = makeTree(t, { 'proc/self/mountinfo': mounts.v2, 'cgroup/': '', ...files });
    return findNarrowing(roots, readCgroupLayout(roots))?.found;
  };
  t.is(found({}), 'of the tree of cgroups a part is mounted');
  t.regex(found(own) ?? '', /mounted, a cgroup namespace of its own, a pid namespace of its own$/);
});
