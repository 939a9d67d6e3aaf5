import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import { restoreSentence } from '../../../src/cli/commands/restore.ts';
import { createProgram } from '../../../src/cli/program.ts';
import type { SculptorError } from '../../../src/contract/errors.ts';

const none = { restored: 0, gone: 0, yielded: 0, failed: 0, messages: [], actions: [], ended: [] };

test('the journal that was looked at is named: another configuration has another', t => {
  t.is(
    restoreSentence(none, '/var/lib/x.db'),
    'Nothing to restore: the journal /var/lib/x.db shows no open action.',
  );
  t.is(
    restoreSentence({ ...none, restored: 2, yielded: 1, actions: ['a'] }, '/x.db'),
    '1 open actions: 2 values restored, 1 left, because somebody else changed them since (journal /x.db).',
  );
});

test('a configuration that is broken says how to do without it, and is not read then', async t => {
  const folder = mkdtempSync(`${tmpdir()}/sculptor-restore-`);
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(`${folder}/sculpt.yaml`, 'agent: {hotTaks: 3}');
  writeFileSync(`${folder}/journal.db`, 'no database');
  const restore = (...args: string[]) =>
    createProgram(t.fail).parseAsync([
      ...['node', 'sculpt', 'restore', '--config', `${folder}/sculpt.yaml`],
      ...args,
    ]);
  await t.throwsAsync(restore(), {
    code: 'CONFIG_INVALID',
    message: /hotTaks: unknown key.*\n {2}without it: sculpt restore --journal FILE \(\/var\/lib\//,
  });
  // It comes as far as the journal, or as the privilege that is asked for before.
  const error = await t.throwsAsync(restore('--journal', `${folder}/journal.db`));
  t.true(['JOURNAL', 'KERNEL_PRIVILEGE'].includes((error as SculptorError).code));
});
