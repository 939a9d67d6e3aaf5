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
