import test, { type ExecutionContext } from 'ava';
import { emptyTotals } from '../../../src/agent/instances/add-change.ts';
import { createCgroupChanges } from '../../../src/agent/instances/cgroup-changes.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { instanceAt } from '../../../src/linux/instance-at.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { makeTree, mounts } from '../../linux/tree.ts';

function stage(t: ExecutionContext, version: 'v1' | 'v2', files: readonly string[]) {
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts[version],
    'cgroup/cgroup.controllers': 'cpu cpuset',
    ...Object.fromEntries(files.map(file => [`cgroup/${file}`, '1'])),
  });
  const changes = createCgroupChanges({
    native: loadNative(),
    layout: readCgroupLayout(tree),
    say: t.fail,
  });
  t.teardown(changes.stop);
  return {
    changes,
    write: (...paths: string[]) =>
      tree.write(Object.fromEntries(paths.map(path => [`cgroup/${path}`, '2']))),
    changed: () => [...changes.take().changed].map(({ instance }) => instance.id).sort(),
  };
}

const life = (path: string, members: readonly string[] = [path]): LivingInstance => ({
  instance: instanceAt(path),
  path,
  members: new Map(members.map((member, id) => [id, member])),
  start: 0,
  totals: emptyTotals(),
  window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
});

test('v2: a write concerns all that are at or below the cgroup', t => {
  const { changes, write, changed } = stage(t, 'v2', [
    'pool/a/cpu.max',
    'pool/b/cpu.max',
    'pool/cpu.max',
  ]);
  const [a, b] = [life('/pool/a'), life('/pool/b')];
  t.true(changes.follow(a, '/pool/a'));
  t.true(changes.follow(b, null));
  t.false(changes.follow(b, null), 'nothing of it is new');
  t.deepEqual(changed(), []);
  write('pool/a/cpu.max');
  t.deepEqual(changed(), ['/pool/a']);
  write('pool/a/cpu.max');
  t.false(changes.follow(a, '/pool/a'));
  t.deepEqual(changed(), ['/pool/a'], 'what was written before is not forgotten');
  write('pool/cgroup.procs', 'pool/a/memory.max');
  t.deepEqual(changed(), []);
  write('pool/cpu.max');
  t.deepEqual(changed(), ['/pool/a', '/pool/b']);
  write('cgroup.subtree_control');
  t.deepEqual(changed(), ['/pool/a', '/pool/b']);
  changes.forget(a);
  write('pool/cpu.max', 'pool/a/cpu.max');
  t.deepEqual(changed(), ['/pool/b']);
  changes.forget(b);
  write('pool/cpu.max', 'pool/c/cpu.max');
  t.deepEqual(changes.take(), { changed: new Set(), moved: false });
  t.true(changes.follow(b, null), 'what was read of it before may have changed since');
});

test('v1: its cpuset is in another tree, and is followed where it is now', t => {
  const { changes, write, changed } = stage(t, 'v1', [
    'cpu,cpuacct/a/cpu.shares',
    'cpuset/one/cpuset.cpus',
    'cpuset/two/cpuset.cpus',
  ]);
  const a = life('/a');
  changes.follow(a, '/one');
  write('cpuset/one/cpuset.cpus');
  t.deepEqual(changed(), ['/a']);
  t.true(changes.follow(a, '/two'));
  changed();
  write('cpuset/one/cpuset.cpus');
  t.deepEqual(changed(), []);
  write('cpuset/two/cpuset.cpus');
  t.deepEqual(changed(), ['/a']);
  write('cpuset/cpuset.cpus');
  t.deepEqual(changed(), ['/a'], 'the root of the tree is above it');
});

test("a VM's cgroups within are seen to go, and another life of the same name is followed as the first", t => {
  const { changes, write, changed } = stage(t, 'v2', ['vm/cpu.max', 'vm/emulator/cpu.max']);
  const vm = life('/vm', ['/vm', '/vm/emulator', '/vm/emulator/inner']);
  changes.follow(vm, null);
  write('vm/emulator/inner/cpu.max');
  t.true(changes.take().moved);
  const next = life('/vm');
  changes.follow(next, null);
  changes.forget(vm);
  write('vm/cpu.max');
  t.deepEqual(changed(), ['/vm']);
  t.false(changes.take().moved);
});
