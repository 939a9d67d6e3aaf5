import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';
import fc from 'fast-check';
import { readQemuArguments } from '../../src/linux/command-line.ts';
import {
  listThreads,
  readBootTime,
  readCpuTimes,
  readTaskCgroup,
  readTaskStat,
  readTaskStatus,
} from '../../src/linux/procfs.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { makeTree, taskFiles } from './tree.ts';

test('a name with spaces and parentheses does not shift the fields', t => {
  const roots = makeTree(t, taskFiles(7, { name: 'a) R (b) 1 2', startTicks: 424242, cpu: 3 }));
  t.deepEqual(readTaskStat(roots, 7), { name: 'a) R (b) 1 2', startTicks: 424242, cpu: 3 });
});

test('a task that has ended is null everywhere, and has no threads', t => {
  const roots = makeTree(t, { 'proc/': '' });
  t.is(readTaskStat(roots, 9), null);
  t.is(readTaskStatus(roots, 9), null);
  t.is(readTaskCgroup(roots, 9, 'cpu'), null);
  t.deepEqual(readQemuArguments(roots, 9), []);
  t.deepEqual(listThreads(roots, 9), []);
});

test('a stat that is cut anywhere is read or null, and never an exception', t => {
  const whole = taskFiles(7, { startTicks: 5 })['proc/7/stat'] ?? '';
  const roots = makeTree(t, { 'proc/': '' });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: whole.length }), length => {
      roots.write({ 'proc/7/stat': whole.slice(0, length) });
      const stat = readTaskStat(roots, 7);
      return stat === null || stat.startTicks === 5;
    }),
    { seed: 3, numRuns: 60 },
  );
  t.pass();
});

test('the allowed CPUs are the list, not the mask', t => {
  const roots = makeTree(t, taskFiles(8, { tgid: 4, allowed: '0-1,6' }));
  t.deepEqual(readTaskStatus(roots, 8), { tgid: 4, allowedCpus: [0, 1, 6] });
});

test('controllers that are mounted together have one path; v2 has none before its colon', t => {
  const roots = makeTree(
    t,
    taskFiles(8, { cgroup: '5:cpu,cpuacct:/a:b\n3:cpuset:/sets\n0::/user.slice' }),
  );
  t.is(readTaskCgroup(roots, 8, 'cpu'), '/a:b');
  t.is(readTaskCgroup(roots, 8, 'cpuacct'), '/a:b');
  t.is(readTaskCgroup(roots, 8, 'cpuset'), '/sets');
  t.is(readTaskCgroup(roots, 8, ''), '/user.slice');
  t.is(readTaskCgroup(roots, 8, 'memory'), null);
});

test('a cgroup whose name ends in a blank is not its sibling without it', t => {
  const roots = makeTree(t, taskFiles(8, { cgroup: '0::/a \n' }));
  t.is(readTaskCgroup(roots, 8, ''), '/a ');
});

test('idle time includes waiting for I/O; the sum of all CPUs is no CPU', t => {
  const roots = makeTree(t, {
    'proc/stat':
      'cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 0 2 300 50 0 0 25 0 0\ncpu12 1 0 2 100 0 0 0 0 0 0\nintr 5\nbtime 1700000000',
  });
  t.deepEqual(readCpuTimes(roots), [
    { cpu: 0, idleSeconds: 3.5, stealSeconds: 0.25 },
    { cpu: 12, idleSeconds: 1, stealSeconds: 0 },
  ]);
  t.is(readBootTime(roots), 1_700_000_000);
});

test('of a QEMU with a megabyte of arguments so many are read as a QEMU may have', async t => {
  const [many, each] = [15, 70_000];
  const script = 'process.stdout.write("up"); process.stdin.resume()';
  const args = ['-e', script, ...Array.from({ length: many }, () => 'x'.repeat(each))];
  const child = spawn(process.execPath, args, {
    argv0: 'kvm',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const read = readQemuArguments(hostRoots, child.pid ?? 0);
  t.deepEqual(read.slice(0, 3), ['kvm', '-e', script]);
  const whole = read.filter(arg => arg.length === each).length;
  t.is(whole, 3);
  t.true(read.join('').length <= 262_144);
});
