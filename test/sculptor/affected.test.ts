import test, { type ExecutionContext } from 'ava';
import { readCgroupLayout } from '../../src/linux/cgroups.ts';
import { affected } from '../../src/sculptor/affected.ts';
import { makeTree, mounts, taskFiles } from '../linux/tree.ts';
import { instance } from './support/cgroup-lab.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

/** What is moved with these, where `/pool` has a task of its own, a busy cgroup below it, an empty one, and a VM. */
function movedWith(t: ExecutionContext, ...ids: string[]): string[] {
  const tasksIn = (path: string, ...tids: number[]) => ({
    [`cgroup${path}/cgroup.procs`]: tids.join('\n'),
    [`cgroup${path}/cgroup.threads`]: tids.join('\n'),
  });
  const cmdline = ['/usr/bin/qemu-system-x86_64', '-name', 'web', '-uuid', uuid];
  const roots = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu cpuset',
    ...tasksIn('/pool', 4),
    ...tasksIn('/pool/busy', 5),
    ...tasksIn('/pool/busy/inner', 6),
    ...tasksIn('/pool/empty'),
    ...tasksIn('/pool/vm', 7),
    ...tasksIn('/other', 8),
    ...Object.assign({}, ...[4, 5, 6, 8].map(tid => taskFiles(tid))),
    ...taskFiles(7, { name: 'qemu-system-x86', cmdline, cgroup: '0::/pool/vm' }),
  });
  const layout = readCgroupLayout(roots);
  const moves = ids.map(id => ({ instance: instance(id) }));
  return affected({ roots, layout }, { moves } as never).sort();
}

test('who is below a moved cgroup is moved with it, a VM by its own id, and an empty cgroup is nobody', t => {
  t.deepEqual(movedWith(t, '/pool'), [uuid, '/pool', '/pool/busy', '/pool/busy/inner'].sort());
});

test('beside what is moved nobody is', t => {
  t.deepEqual(movedWith(t, '/pool/busy/inner'), ['/pool/busy/inner']);
  t.deepEqual(movedWith(t, '/pool/empty', uuid), [uuid, '/pool/empty'].sort());
});

test('what is moved of the root is its own tasks', t => {
  t.deepEqual(movedWith(t, '/'), ['/']);
});
