import { execFileSync, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { loadNative } from '../../src/linux/native.ts';
import { needs } from '../support/needs.ts';
import { endChild } from '../support/scene.ts';

needs('root', 'addon')('a reader that only has no CPU is waited for', async t => {
  const native = loadNative();
  const threads = () => readdirSync('/proc/self/task');
  const before = new Set(threads());
  native.readAside('/proc/self/stat', 4096, 1000);
  const reader = threads().find(tid => !before.has(tid)) ?? '';
  execFileSync('chrt', ['--idle', '--pid', '0', reader]);
  execFileSync('taskset', ['--cpu-list', '--pid', '0', reader]);
  // The reader runs when this has ended; we have the other CPUs.
  const busy = spawn('taskset', ['--cpu-list', '0', 'nice', '-n', '-20', 'timeout', '1', 'yes'], {
    stdio: 'ignore',
  });
  t.teardown(() => endChild(busy));
  await setTimeout(300);
  const milliseconds = Array.from({ length: 50 }, () => {
    const began = performance.now();
    t.true(native.readAside('/proc/self/stat', 4096, 100).length > 0);
    return performance.now() - began;
  });
  t.true(Math.max(...milliseconds) > 100, `it was kept waiting: ${milliseconds.join(' ')}`);
});
