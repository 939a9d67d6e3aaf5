import { chmodSync, mkdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { reloadConfig } from '../../src/cli/config-file.ts';
import { followConfig, lookAt } from '../../src/cli/follow-config.ts';
import { socketFolder } from '../support/sockets.ts';
import { steppedClock } from '../support/stepped-clock.ts';

function follow(t: ExecutionContext, options: { atHangup?: boolean; meanwhile?: string } = {}) {
  const path = join(socketFolder(t), 'sculpt.yaml');
  writeFileSync(path, 'agent: {hotTasks: 1}');
  const source = { path, load: () => reloadConfig(path), look: lookAt(path) };
  if (options.meanwhile !== undefined) writeFileSync(path, options.meanwhile);
  const said: string[] = [];
  const taken: number[] = [];
  const clock = steppedClock();
  const following = followConfig({
    source,
    apply: ({ agent }) => void taken.push(agent.hotTasks),
    atHangup: options.atHangup ?? false,
    clock,
    say: (level, text) => void said.push(`${level}: ${text}`),
  });
  t.teardown(following.stop);
  return { path, clock, said, taken, stop: following.stop };
}

test.serial('SIGHUP loads the file again; a bad one is said, and nothing is applied', async t => {
  const { path, clock, said, taken, stop } = follow(t, { atHangup: true });
  process.emit('SIGHUP');
  t.deepEqual(taken, [1]);
  writeFileSync(path, 'agent: {hotTask: 22}');
  process.emit('SIGHUP');
  t.regex(said.at(-1) ?? '', /^error: .* is not taken, .*hotTask: unknown key; did you mean/);
  clock.step(5);
  t.is(said.length, 2, 'the change was seen already');
  await stop();
  t.is(process.listenerCount('SIGHUP'), 0);
});

test.serial('where SIGHUP means that the terminal is gone, it is not listened to', t => {
  follow(t);
  t.is(process.listenerCount('SIGHUP'), 0);
});

test('a file that changed, also by being replaced by an older one, is loaded again, once', async t => {
  const { path, clock, taken, stop } = follow(t);
  clock.step(5);
  t.deepEqual(taken, []);
  writeFileSync(path, 'agent: {hotTasks: 22}');
  clock.step(5);
  t.deepEqual(taken, [22]);
  writeFileSync(`${path}.new`, 'agent: {hotTasks: 33}');
  utimesSync(`${path}.new`, 1, 1);
  renameSync(`${path}.new`, path);
  clock.step(5);
  t.deepEqual(taken, [22, 33]);
  await stop();
  writeFileSync(path, 'agent: {hotTasks: 4}');
  clock.step(5);
  t.deepEqual(taken, [22, 33]);
});

test('a file that could not be read is taken when its mode lets it be', async t => {
  const { path, clock, said, taken } = follow(t);
  writeFileSync(path, 'agent: {hotTasks: 22}', { mode: 0o600 });
  chmodSync(path, 0);
  // Root reads it all the same.
  clock.step(5);
  const before = said.length;
  chmodSync(path, 0o600);
  clock.step(5);
  t.is(said.length, before + 1);
  t.is(taken.at(-1), 22);
});

test('what changed between its first load and the following is not missed', t => {
  const { clock, taken } = follow(t, { meanwhile: 'agent: {hotTasks: 22}' });
  clock.step(1);
  t.deepEqual(taken, [22]);
});

test('a file that is removed keeps what held, and is taken when it is there again', t => {
  const { path, clock, said, taken } = follow(t);
  rmSync(path);
  clock.step(5);
  t.deepEqual(taken, []);
  t.is(said.length, 1);
  t.regex(said[0] ?? '', /^error: .* is not taken, what held before goes on: .*no such file/);
  // As a deployment may: for a moment something else is there.
  mkdirSync(path);
  clock.step(1);
  rmSync(path, { recursive: true });
  writeFileSync(path, 'agent: {hotTasks: 22}');
  clock.step(5);
  t.deepEqual(taken, [22]);
});

test('a file that is written piece by piece is taken when it stands still', t => {
  const { path, clock, said, taken } = follow(t);
  writeFileSync(path, 'agent: {hotTasks: 2');
  clock.step(1.5);
  writeFileSync(path, '2}', { flag: 'a' });
  clock.step(2.5);
  t.deepEqual(taken, [22]);
  t.is(said.length, 1, said.join());
});

test('a file that was emptied for who is to write it keeps what held', t => {
  const { path, clock, said, taken } = follow(t);
  writeFileSync(path, '');
  clock.step(5);
  t.deepEqual(taken, []);
  t.regex(
    said.join(),
    /^error: .* is not taken, .*got an empty file; \{\} in it says that defaults/,
  );
  writeFileSync(path, '{}');
  clock.step(5);
  t.deepEqual(taken, [100]);
});
