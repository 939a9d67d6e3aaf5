import { existsSync } from 'node:fs';
import test from 'ava';
import { defaultConfigPath } from '../../src/cli/config-file.ts';
import { configOf, configSourceOf } from '../../src/cli/options.ts';

test('a default file that is not there means defaults at the start, and is an error when it is loaded again', t => {
  const source = configSourceOf({});
  t.is(source.path, defaultConfigPath);
  if (existsSync(defaultConfigPath)) {
    t.deepEqual(source.load(), configOf({}));
    return;
  }
  t.is(configOf({}).agent.hotTasks, 100);
  const error = t.throws(source.load, { message: `${defaultConfigPath}: no such file` });
  t.like(error, { code: 'CONFIG_UNREADABLE' });
});

test('a folder of sockets whose path leaves no room for their names is refused before anything listens', t => {
  const longest = `/tmp/${'x'.repeat(84)}`;
  t.is(configOf({ runDir: longest }).sculptor.apiSocket.length, 107);
  t.throws(() => configOf({ runDir: `${longest}x` }), {
    message: /^--run-dir: got 90 bytes, wanted at most 89: the path of a socket has at most 107$/,
  });
});
