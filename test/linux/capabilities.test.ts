import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import { lacking, ownLacking, readOwnPrivileges, setOf } from '../../src/linux/capabilities.ts';

test('what a set lacks is told by name, and what a wider capability includes is not lacking', t => {
  t.deepEqual(lacking(0n, ['CAP_BPF', 'CAP_PERFMON']), ['CAP_BPF', 'CAP_PERFMON']);
  t.deepEqual(lacking(setOf(['CAP_BPF']), ['CAP_BPF', 'CAP_PERFMON']), ['CAP_PERFMON']);
  t.deepEqual(lacking(setOf(['CAP_SYS_ADMIN']), ['CAP_BPF', 'CAP_SYS_PTRACE']), ['CAP_SYS_PTRACE']);
  t.deepEqual(lacking(setOf(['CAP_DAC_OVERRIDE']), ['CAP_DAC_READ_SEARCH']), []);
});

test('the own sets are read as the kernel tells them; where it does not, nothing is said to be lacking', t => {
  const root = mkdtempSync(`${tmpdir()}/capabilities-`);
  t.teardown(() => rmSync(root, { recursive: true }));
  const roots = { proc: root, sys: root, cgroup: root };
  t.is(readOwnPrivileges(roots), null);
  t.deepEqual(ownLacking(roots, ['CAP_BPF']), []);
  mkdirSync(`${root}/self`);
  const sets = 'CapPrm:\t000000c000000000\nCapEff:\t0000008000000000\nCapBnd:\t000001ffffffffff';
  writeFileSync(`${root}/self/status`, `Name:\tnode\n${sets}\nNoNewPrivs:\t1\n`);
  t.deepEqual(readOwnPrivileges(roots), {
    effective: setOf(['CAP_BPF']),
    permitted: setOf(['CAP_BPF', 'CAP_PERFMON']),
    bounding: 2n ** 41n - 1n,
    noNewPrivileges: true,
  });
  t.deepEqual(ownLacking(roots, ['CAP_BPF', 'CAP_PERFMON']), ['CAP_PERFMON']);
});
