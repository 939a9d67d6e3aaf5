import test, { type ExecutionContext } from 'ava';
import { readNiceScope } from '../../src/linux/nice-scope.ts';
import { makeTree, mounts, taskFiles } from './tree.ts';

const autogroups = { 'proc/sys/kernel/sched_autogroup_enabled': '1' };

function scopeOf(t: ExecutionContext, files: Record<string, string>) {
  return readNiceScope(makeTree(t, files), 7);
}

/** Process 7 in an autogroup, its session led by `leader`. */
function process7(cgroup: string, leader = 7): Record<string, string> {
  const files = taskFiles(7, { cgroup, name: 'of) 9 (a' });
  const stat = files['proc/7/stat'] ?? '';
  // Fields 3 to 6: state, parent, process group, session.
  const own = stat.replace(/\) S 0 0 0 /, `) S 1 7 ${leader} `);
  return { ...files, 'proc/7/stat': own, 'proc/7/autogroup': '/autogroup-12 nice 0' };
}

test('in a cgroup with a weight a nice value counts inside that cgroup only: the nearest one that has it', t => {
  const files = {
    ...autogroups,
    ...process7('0::/system.slice/ours.service/part'),
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    'cgroup/system.slice/cpu.weight': '100',
  };
  t.deepEqual(scopeOf(t, files), { kind: 'cgroup', path: '/system.slice', weight: 100 });
  const service = { ...files, 'cgroup/system.slice/ours.service/cpu.weight': '900' };
  const path = '/system.slice/ours.service';
  t.deepEqual(scopeOf(t, service), { kind: 'cgroup', path, weight: 900 });
});

test('on v1 the weights are those of the cpu hierarchy, and its root weighs nothing', t => {
  const files = {
    ...autogroups,
    ...process7('4:cpu,cpuacct:/\n0::/user.slice'),
    'proc/self/mountinfo': mounts.hybrid,
    'cgroup/cpu,cpuacct/cpu.shares': '1024',
    'cgroup/cpu,cpuacct/ours/cpu.shares': '2048',
  };
  t.deepEqual(scopeOf(t, files), { kind: 'session', leads: true });
  const below = { ...files, 'proc/7/cgroup': '4:cpu,cpuacct:/ours\n0::/user.slice' };
  t.deepEqual(scopeOf(t, below), { kind: 'cgroup', path: '/ours', weight: 200 });
});

test('in no such cgroup it counts inside the session, whoever leads that, where the kernel groups by session', t => {
  const files = { ...autogroups, 'proc/self/mountinfo': mounts.v2 };
  const cgroup = '0::/system.slice/ours.service';
  t.deepEqual(scopeOf(t, { ...files, ...process7(cgroup) }), { kind: 'session', leads: true });
  t.deepEqual(scopeOf(t, { ...files, ...process7(cgroup, 5) }), { kind: 'session', leads: false });
});

test('without autogroups, and where a task has none, it counts among all', t => {
  const files = { ...process7('0::/'), 'proc/self/mountinfo': mounts.none };
  t.deepEqual(scopeOf(t, files), { kind: 'host' });
  const off = { ...files, 'proc/sys/kernel/sched_autogroup_enabled': '0' };
  t.deepEqual(scopeOf(t, off), { kind: 'host' });
  t.deepEqual(scopeOf(t, { ...files, ...autogroups, 'proc/7/autogroup': '' }), { kind: 'host' });
});
