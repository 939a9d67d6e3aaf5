import test from 'ava';
import { readCgroupPressure, readHostPressure } from '../../src/linux/pressure.ts';
import { makeTree } from './tree.ts';

const psi = (some: number, full: number) =>
  `some avg10=0.50 avg60=0.10 avg300=0.00 total=${some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=${full}`;

test('stall time is told in seconds, of the host and of a cgroup', t => {
  const tree = makeTree(t, {
    'proc/pressure/memory': psi(2_500_000, 1_000_000),
    'cgroup/a/io.pressure': psi(7, 0),
  });
  t.deepEqual(readHostPressure(tree, 'memory'), { someSeconds: 2.5, fullSeconds: 1 });
  t.deepEqual(readCgroupPressure(`${tree.cgroup}/a`, 'io'), { someSeconds: 7e-6, fullSeconds: 0 });
});

test('a kernel that tells no full stall of the CPU has none, and no account at all is null', t => {
  const tree = makeTree(t, { 'proc/pressure/cpu': 'some avg10=0.00 total=1000000' });
  t.deepEqual(readHostPressure(tree, 'cpu'), { someSeconds: 1, fullSeconds: 0 });
  t.is(readHostPressure(tree, 'io'), null);
  t.is(readCgroupPressure(`${tree.cgroup}/gone`, 'cpu'), null);
});
