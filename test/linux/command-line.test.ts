import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readCommandLine } from '../../src/linux/command-line.ts';
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
      t.deepEqual(readCommandLine(roots, 7), []);
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
    t.deepEqual(readCommandLine(roots, 8), qemuArguments);
    silence(t, roots, 8);
    t.deepEqual(readCommandLine(roots, 8), qemuArguments);
    roots.write(taskFiles(8, { startTicks: 6 }));
    t.deepEqual(readCommandLine(roots, 8), []);
  },
);

test.serial('of a process that is silent others are read meanwhile', t => {
  const roots = makeTree(t, { ...taskFiles(9, {}), 'proc/10/cmdline': 'sleep\x001000\0' });
  silence(t, roots, 9);
  t.deepEqual(readCommandLine(roots, 9), []);
  t.deepEqual(readCommandLine(roots, 10), ['sleep', '1000']);
  t.deepEqual(readCommandLine(roots, 11), []);
});
