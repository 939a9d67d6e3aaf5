import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { socketFolder, until } from '../support/sockets.ts';

const module = new URL('../../src/cli/run-until.ts', import.meta.url).href;

/** A program without a terminal; `told`: what it wrote to standard output. */
function start(t: ExecutionContext, program: string) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program]);
  t.teardown(() => child.kill('SIGKILL'));
  let told = '';
  child.stdout.on('data', data => {
    told += data;
  });
  return { child, told: () => told, ended: once(child, 'exit') };
}

test('a terminal that is closed stops what runs in it: all is given back, though nobody can be told', async t => {
  const result = join(socketFolder(t), 'result');
  const program = `
    import { writeFileSync } from 'node:fs';
    import { sayOnStderr, untilStopped } from '${module}';
    const alive = setInterval(() => undefined, 1000);
    const stopped = untilStopped();
    sayOnStderr('info', 'ready');
    const why = await stopped;
    sayOnStderr('info', 'stopping');
    process.kill(process.pid, 'SIGHUP');
    await new Promise(resolve => setTimeout(resolve, 50));
    writeFileSync('${result}', why);
    clearInterval(alive);
  `;
  // A terminal of its own, which is gone with `script`.
  const terminal = spawn(
    'script',
    ['-qec', 'exec "$NODE" --input-type=module -e "$PROGRAM"', '/dev/null'],
    {
      env: { ...process.env, NODE: process.execPath, PROGRAM: program },
      stdio: ['pipe', 'pipe', 'ignore'],
    },
  );
  t.teardown(() => terminal.kill('SIGKILL'));
  let said = '';
  terminal.stdout.on('data', data => {
    said += data;
  });
  await until(() => said.includes('ready'), 20);
  terminal.kill('SIGKILL');
  await until(() => existsSync(result) && readFileSync(result, 'utf8') !== '', 10);
  t.is(readFileSync(result, 'utf8'), 'SIGHUP');
});

test('who reads what is said may go away: what runs goes on, and stops when it is told to', async t => {
  const program = `
    import { sayOnStderr, untilStopped } from '${module}';
    const stopped = untilStopped();
    sayOnStderr('info', 'ready');
    process.stdin.on('data', data => {
      sayOnStderr('info', 'more');
      setImmediate(() => process.stdout.write(data));
    });
    const why = await stopped;
    sayOnStderr('info', 'stopping');
    process.stdout.write(why);
    process.stdin.destroy();
  `;
  const { child, told, ended } = start(t, program);
  await once(child.stderr, 'data');
  child.stderr.destroy();
  for (const turn of ['a', 'b']) {
    child.stdin.write(turn);
    await until(() => told().endsWith(turn), 10);
  }
  child.kill('SIGTERM');
  t.deepEqual(await ended, [0, null]);
  t.is(told(), 'abSIGTERM');
});

test('of what is said to somebody who reads no further, no more than a megabyte is held', async t => {
  const program = `
    import { sayOnStderr } from '${module}';
    for (let i = 0; i < 4000; i += 1) sayOnStderr('info', 'x'.repeat(1000));
    process.stdout.write(String(process.stderr.writableLength), () => process.exit());
  `;
  const { told, child } = start(t, program);
  child.stderr.pause();
  await once(child.stdout, 'end');
  t.true(Number(told()) > 1e6 && Number(told()) < 1.1e6, told());
});

test('without a terminal SIGHUP stops a part that loads nothing again by it: all is given back', async t => {
  const program = `
    import { untilStopped } from '${module}';
    const stopped = untilStopped();
    process.stdin.resume();
    process.stdout.write('ready ');
    process.stdout.write(await stopped);
    process.stdin.destroy();
  `;
  const { child, told, ended } = start(t, program);
  await until(() => told() === 'ready ', 10);
  child.kill('SIGHUP');
  t.deepEqual(await ended, [0, null]);
  t.is(told(), 'ready SIGHUP');
});

test('without a terminal SIGHUP ends nothing that loads again by it, before it can', async t => {
  const program = `
    import { outliveHangups, untilStopped } from '${module}';
    outliveHangups();
    process.stdin.on('data', data => process.stdout.write(data));
    process.stdout.write('starting ');
    await new Promise(resolve => process.stdin.once('data', resolve));
    const stopped = untilStopped({ reloads: true });
    process.stdout.write('ready ');
    process.stdout.write(await stopped);
    process.stdin.destroy();
  `;
  const { child, told, ended } = start(t, program);
  await until(() => told() === 'starting ', 10);
  child.kill('SIGHUP');
  child.stdin.write('on ');
  await until(() => told() === 'starting on ready ', 10);
  child.kill('SIGTERM');
  t.deepEqual(await ended, [0, null]);
  t.is(told(), 'starting on ready SIGTERM');
});
