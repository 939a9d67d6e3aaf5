import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import test from 'ava';

const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;

test('an answer that cannot be written is an error: help and the answers of commands', t => {
  for (const args of [['--help'], ['status', '--run-dir', '/nowhere']]) {
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(process.execPath, [main, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', full, 'pipe'],
    });
    t.is(status, 2);
    t.regex(
      stderr,
      /^sculpt: CONFIG_OUTPUT: standard output: the answer is not whole: ENOSPC: .*\n$/,
    );
  }
});

test('who has read enough of an answer is told nothing', async t => {
  const child = spawn(process.execPath, [main, '--help']);
  child.stdout.destroy();
  let said = '';
  child.stderr.on('data', data => {
    said += data;
  });
  t.deepEqual(await once(child, 'exit'), [0, null]);
  t.is(said, '');
});
