import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readQemuArguments } from '../../src/linux/command-line.ts';
import { makeTree, type Tree, taskFiles } from './tree.ts';

const qemuArguments = ['/usr/bin/qemu-system-x86_64', '-name', 'web'];

/** In the place of the file, which keeps who reads it waiting for as long as the test runs. */
function silence(t: ExecutionContext, roots: Tree, tgid: number): void {
  const path = join(roots.proc, String(tgid), 'cmdline');
  rmSync(path, { force: true });
  execFileSync('mkfifo', [path]);
  const writer = openSync(path, 'r+');
  t.teardown(() => closeSync(writer));
}

test.serial(
  'a process that keeps its reader waiting is given up on, and then not waited for',
  t => {
    const roots = makeTree(t, taskFiles(7, {}));
    silence(t, roots, 7);
    const milliseconds = () => {
      const began = performance.now();
      t.deepEqual(readQemuArguments(roots, 7), []);
      return performance.now() - began;
    };
    t.true(milliseconds() >= 100);
    t.true(milliseconds() < 100);
  },
);

test.serial(
  'a QEMU that does so is the one that it was, and another process with its number is not',
  t => {
    const roots = makeTree(t, {
      ...taskFiles(8, { startTicks: 5 }),
      'proc/8/cmdline': `${qemuArguments.join('\0')}\0`,
    });
    t.deepEqual(readQemuArguments(roots, 8), qemuArguments);
    silence(t, roots, 8);
    t.deepEqual(readQemuArguments(roots, 8), qemuArguments);
    roots.write(taskFiles(8, { startTicks: 6 }));
    t.deepEqual(readQemuArguments(roots, 8), []);
  },
);

test.serial('of a process that is silent others are read meanwhile', t => {
  const roots = makeTree(t, { ...taskFiles(9, {}), 'proc/10/cmdline': 'kvm\0-S\0' });
  silence(t, roots, 9);
  t.deepEqual(readQemuArguments(roots, 9), []);
  t.deepEqual(readQemuArguments(roots, 10), ['kvm', '-S']);
  t.deepEqual(readQemuArguments(roots, 11), []);
});

test.serial('of another program nothing is taken, and of a QEMU no more than one may have', t => {
  const many = 'a\0'.repeat(131_000);
  const roots = makeTree(t, {
    ...taskFiles(12, {}),
    ...taskFiles(13, {}),
    'proc/12/cmdline': `sleep\0${many}`,
    'proc/13/cmdline': `kvm\0-name\0web\0${many}`,
  });
  t.deepEqual(readQemuArguments(roots, 12), []);
  const args = readQemuArguments(roots, 13);
  t.deepEqual(args.slice(0, 4), ['kvm', '-name', 'web', 'a']);
  t.is(args.length, 4096);
});
