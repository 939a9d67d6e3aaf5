import { renameSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadConfig } from '../../src/cli/config-file.ts';
import { followConfig } from '../../src/cli/follow-config.ts';
import { realTime, socketFolder, until } from '../support/sockets.ts';

test('a file that changed, also by being replaced, and SIGHUP load it again; a bad one is said, and nothing is applied', async t => {
  const path = join(socketFolder(t), 'sculpt.yaml');
  writeFileSync(path, 'agent: {hotTasks: 1}');
  const said: string[] = [];
  const taken: number[] = [];
  const following = followConfig({
    source: { path, load: () => loadConfig(path) },
    apply: ({ agent }) => void taken.push(agent.hotTasks),
    clock: realTime,
    say: (level, text) => void said.push(`${level}: ${text}`),
  });
  t.teardown(following.stop);
  process.emit('SIGHUP');
  t.deepEqual(taken, [1]);
  writeFileSync(path, 'agent: {hotTask: 2}');
  process.emit('SIGHUP');
  t.regex(said.at(-1) ?? '', /^error: .* is not taken, .*hotTask: unknown key; did you mean/);
  writeFileSync(`${path}.new`, 'agent: {hotTasks: 3}');
  utimesSync(`${path}.new`, 1, 1);
  renameSync(`${path}.new`, path);
  await until(() => taken.includes(3), 10);
  t.deepEqual(taken, [1, 3]);
  await following.stop();
  t.is(process.listenerCount('SIGHUP'), 0);
});
