import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import { defaultModelFolder, startForecaster } from '../../../src/pae/models/forecaster.ts';
import { realTime } from '../../support/sockets.ts';

// A file of its own: the runtime decides once in a process.
test('the model’s runtime keeps no id of the machine and no queue of what it would tell its makers', async t => {
  const home = mkdtempSync(`${tmpdir()}/sculptor-home-`);
  t.teardown(() => rmSync(home, { recursive: true }));
  process.env['HOME'] = home;
  // Either keeps it from the home, or silent by itself.
  for (const name of ['XDG_CACHE_HOME', 'CI']) delete process.env[name];
  const options = { folder: defaultModelFolder(), clock: realTime, say: () => undefined };
  const forecaster = await startForecaster(options);
  await forecaster.stop();
  t.deepEqual(readdirSync(home), []);
});
