import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import { demo } from '../../../src/cli/demo/command.ts';

test('a report that cannot be written is refused before anything is staged', async t => {
  const folder = mkdtempSync(`${tmpdir()}/sculptor-report-`);
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const report of [`${folder}/no-folder/r.html`, folder])
    await t.throwsAsync(demo({ report }, t.fail), {
      code: 'CONFIG_OUTPUT',
      message: new RegExp(`^--report ${report}: wanted a file that can be written, got E`),
    });
  t.deepEqual(readdirSync(folder), []);
});
